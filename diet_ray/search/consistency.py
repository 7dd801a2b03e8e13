"""Does the ranking on the distilled dataset agree with full-data training, and at what cost?

Both arms train every candidate with every seed and are judged on the same rows; arms never share
an initialisation, so that none of their agreement comes from it.

Seconds are wall-clock on as many workers: what the full runs took, back to back on every worker
and without their start-up, against all of the distilled search from its call to its return. So
runs that were read from disk count as when they were paid for.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import numpy as np
from torch import Tensor

from diet_ray.config import to_mapping
from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.data.log import PreparedLog
from diet_ray.errors import ConfigError, DataError
from diet_ray.memory.dataset import DistilledDataset
from diet_ray.models.catalogue import Candidate
from diet_ray.search import baselines
from diet_ray.search.agreement import Arm, Ceiling, Fidelity, ceiling, fidelity, intervals
from diet_ray.search.baselines import BASELINES, BaselineOutcome, Setting
from diet_ray.search.evaluation import EvaluationRows, evaluation_rows
from diet_ray.search.resolution import resolution
from diet_ray.search.run_set import DistilledRows
from diet_ray.search.runs import FORWARD_SHARE, FullRunConfig, RunResult, TrainingRows
from diet_ray.search.sampling import first_rows
from diet_ray.search.statistics import Array, PairMask, distinct
from diet_ray.search.trials import SearchConfig, SearchResult, search
from diet_ray.search.workers import WorkersConfig
from diet_ray.storage import Folder
from diet_ray.training.full_runs import FullRuns, train_full
from diet_ray.training.recipe import Recipe

_DISTILLED_SEEDS = 1_000_000
_BASELINE_SEEDS = 2_000_000

Progress = Callable[[str, int, int], None]
"""Called with what is being done, runs finished and runs in all."""


@dataclass(frozen=True, kw_only=True)
class ConsistencyConfig:
    seeds: tuple[int, ...] = (0, 1)
    evaluation_rows: int = 20_000
    """Test rows, evenly spaced, that every run is judged on."""
    full: FullRunConfig = dataclasses.field(default_factory=FullRunConfig)
    workers: WorkersConfig = dataclasses.field(default_factory=WorkersConfig)
    baselines: tuple[baselines.Name, ...] = BASELINES
    num_replicates: int = 500
    """Of the bootstrap behind the intervals."""

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds must be distinct, at least one")
        if min(self.seeds) < 0 or max(self.seeds) >= _DISTILLED_SEEDS:
            raise ValueError(f"seeds must lie in [0, {_DISTILLED_SEEDS})")
        if self.evaluation_rows < 4 or self.num_replicates < 0:
            raise ValueError("evaluation_rows must be at least 4, num_replicates at least 0")


@dataclass(frozen=True, kw_only=True)
class DistilledSet:
    """What of a distilled dataset a comparison needs."""

    train: TrainingRows
    """Slots in time order."""
    features: FeatureSpec
    recipe: Recipe
    num_bytes: int
    """On disk, everything that ships with the slots included."""
    distill_seconds: float
    """Wall-clock that distilling it took."""

    @classmethod
    def of(cls, dataset: DistilledDataset, *, distill_seconds: float) -> DistilledSet:
        return cls(
            train=TrainingRows(dataset.batch(), dataset.targets(), dataset.weights.float()),
            features=dataset.features,
            recipe=dataset.recipe,
            num_bytes=dataset.manifest.num_bytes.total,
            distill_seconds=distill_seconds,
        )


class ArmReport(TypedDict):
    """One value a seed; `auc` and `logloss` on the ranking slice, `regret_auc` on the later one.

    Distilled runs aren't judged on the later slice: null.
    """

    auc: list[float]
    logloss: list[float]
    regret_auc: list[float | None]
    seconds: list[float]


class CandidateReport(TypedDict):
    name: str
    config: dict[str, Any]
    full: ArmReport
    distilled: ArmReport
    counted: bool
    """Whether it enters the statistics: both arms finished, and no earlier name for the model."""
    error: str | None


class BaselineReport(Fidelity):
    """Null where the baseline was left out, with the reason in `details`."""

    distilled_seconds: float | None
    row_visit_fraction: float | None
    details: dict[str, Any]


class ConsistencyReport(Fidelity, Ceiling):
    """The content of `consistency.json`."""

    dataset: str
    num_rows_full: int
    num_rows_distilled: int
    row_fraction: float
    byte_fraction: float
    num_candidates: int
    num_counted: int
    """Candidates in the statistics."""
    num_seeds: int
    num_evaluation_rows: int
    kendall_tau_interval: tuple[float, float] | None
    spearman_rho_interval: tuple[float, float] | None
    resolved_pair_accuracy_interval: tuple[float, float] | None
    distilled_seed_sd: float | None
    resolution_threshold: float | None
    """Distilled means that differ by no more are not resolved."""
    num_unresolved_distilled_pairs: int | None
    row_visit_fraction: float
    row_visit_fraction_with_evaluation: float
    """With the evaluation rows of either arm as forward passes."""
    iteration_speedup: float
    amortised_speedup: float
    full_seconds: float
    distilled_seconds: float
    distill_seconds: float
    search_overhead_seconds: float
    full_run_seconds: float
    """Sum over runs, each in its own process."""
    distilled_run_seconds: float
    full_run_cpu_seconds: float | None
    """Of the processes that the runs were in; null if some were paid for before it was kept."""
    distilled_run_cpu_seconds: float | None
    num_workers: int
    num_full_runs_reused: int
    candidates: list[CandidateReport]
    baselines: dict[str, BaselineReport]
    top_half: dict[str, Any]
    """The same figures over the better half of the candidates, by full runs."""
    architecture_only: dict[str, Any]
    """Over pairs that differ in architecture alone."""
    hyper_parameter_only: dict[str, Any]
    """Over pairs of one architecture."""
    logloss: dict[str, Any]
    """The same figures by log loss instead of AUC."""
    settings: NotRequired[dict[str, Any]]
    """What run, comparison and recipe were configured with."""
    versions: NotRequired[dict[str, str]]
    """Of the software that gave the figures."""


def require_same_features(distilled: FeatureSpec, log: FeatureSpec) -> None:
    """Raises `ConfigError` naming the first difference between a distilled set and a log.

    The log may know more ids, as it grows by new days; never fewer.
    """
    for kind in ("categorical", "numeric", "sequence"):
        ours, theirs = _names(distilled, kind), _names(log, kind)
        for name in ours:
            if name not in theirs:
                raise ConfigError(
                    f"the distilled set has the {kind} field `{name}`, the log has none; "
                    "use the log that it was distilled from"
                )
        for name in theirs:
            if name not in ours:
                raise ConfigError(
                    f"the log has the {kind} field `{name}`, the distilled set has none; "
                    "use the log that it was distilled from"
                )
        if ours != theirs:
            raise ConfigError(f"{kind} fields are ordered {ours} distilled, {theirs} in the log")
    sizes = zip(distilled.categorical, distilled.num_ids, log.num_ids, strict=True)
    lengths = [
        (s.name, s.num_ids, t.num_ids)
        for s, t in zip(distilled.sequence, log.sequence, strict=True)
    ]
    for name, num_distilled, num_log in [*sizes, *lengths]:
        if num_distilled > num_log:
            raise ConfigError(
                f"field `{name}`: the distilled set knows {num_distilled} ids, the log {num_log}; "
                "use the log that it was distilled from"
            )
    for s, t in zip(distilled.sequence, log.sequence, strict=True):
        if (s.max_length, s.target) != (t.max_length, t.target):
            raise ConfigError(
                f"sequence `{s.name}`: max_length {s.max_length} and ids of {s.target} distilled, "
                f"{t.max_length} and {t.target} in the log"
            )


def _names(features: FeatureSpec, kind: str) -> list[str]:
    fields = getattr(features, kind)
    return [f if isinstance(f, str) else f.name for f in fields]


def compare(
    distilled: DistilledSet,
    log: PreparedLog,
    candidates: Sequence[Candidate],
    config: ConsistencyConfig,
    out: str | Path,
    *,
    dataset: str,
    proxy: Callable[[Batch], Tensor] | None = None,
    prior_reports: Sequence[dict[str, Any]] = (),
    progress: Progress | None = None,
) -> ConsistencyReport:
    """Runs both arms and the baselines; keeps trials and full runs under `out` as they finish.

    `proxy` gives the logits (B,) that `random_soft` learns from; `prior_reports` are consistency
    reports of other logs. Raises `ConfigError` if the set isn't of this log, `DataError` if the
    test tail can't rank or no candidate finished, `ClusterError` if the cluster is too small.
    """
    if len(candidates) < 2:
        raise ConfigError("candidates: at least two are needed to compare rankings")
    if changing := next((c.name for c in candidates if c.schedule), None):
        raise ConfigError(
            f"candidate `{changing}`: schedule: arms and baselines are compared at rates that "
            "stay: leave it out"
        )
    require_same_features(distilled.features, log.features)
    rows = evaluation_rows(log, config.evaluation_rows)
    watch = progress or (lambda what, done, total: None)
    found = _search(distilled, log, candidates, config, rows, out, watch)
    full = _full(log, candidates, config, rows, out, watch)
    arms = _Arms(tuple(candidates), config.seeds, found, full)
    if not arms.counted:
        first = next(iter(arms.errors().items()))
        raise DataError(f"no candidate finished in both arms; `{first[0]}`: {first[1]}")
    setting = Setting(
        candidates=tuple(candidates[i] for i in arms.counted),
        seeds=tuple(_BASELINE_SEEDS + s for s in config.seeds),
        log=log,
        evaluation=rows,
        full=config.full,
        workers=config.workers.resolve(len(candidates) * len(config.seeds)),
    )
    costs = _Costs(arms, distilled.distill_seconds)
    outcomes = _baselines(setting, distilled, arms, costs, config, proxy, prior_reports, watch)
    return _report(distilled, log, config, rows, arms, costs, outcomes, dataset)


def write(report: ConsistencyReport, path: str | Path) -> None:
    """Writes the report as JSON, whole or not at all."""
    path = Path(path)
    content = json.dumps(report, indent=1, allow_nan=False)
    Folder.at(path.parent).write(path.name, content.encode())


def _search(
    distilled: DistilledSet,
    log: PreparedLog,
    candidates: Sequence[Candidate],
    config: ConsistencyConfig,
    rows: EvaluationRows,
    out: str | Path,
    watch: Progress,
) -> SearchResult:
    finished = 0

    def on_trial(_: object) -> None:
        nonlocal finished
        finished += 1
        watch("distilled runs", finished * len(config.seeds), len(candidates) * len(config.seeds))

    return search(
        candidates,
        DistilledRows(
            train=distilled.train,
            features=log.features,
            recipe=distilled.recipe,
            evaluation=rows,
        ),
        SearchConfig(seeds=tuple(_DISTILLED_SEEDS + s for s in config.seeds)),
        config.workers,
        out,
        on_trial,
    )


def _full(
    log: PreparedLog,
    candidates: Sequence[Candidate],
    config: ConsistencyConfig,
    rows: EvaluationRows,
    out: str | Path,
    watch: Progress,
) -> FullRuns:
    finished = 0

    def on_outcome(_: object) -> None:
        nonlocal finished
        finished += 1
        watch("full runs", finished, len(candidates) * len(config.seeds))

    found = train_full(
        candidates, config.seeds, log, rows, config.full, out, config.workers, on_outcome
    )
    num_runs = len(candidates) * len(config.seeds)
    watch("full runs", num_runs, num_runs)
    return found


class _Arms:
    """The runs of both arms, and which candidates the statistics count."""

    def __init__(
        self,
        candidates: tuple[Candidate, ...],
        seeds: tuple[int, ...],
        found: SearchResult,
        full: FullRuns,
    ) -> None:
        self.candidates, self.search, self.full_runs = candidates, found, full
        self.distilled = [list(t.runs) for t in found.trials]
        self.full = [
            [full.results[c.name, s] for s in seeds if (c.name, s) in full.results]
            for c in candidates
        ]
        self.complete = [
            i
            for i in range(len(candidates))
            if len(self.full[i]) == len(self.distilled[i]) == len(seeds)
        ]
        first = distinct([candidates[i].identity for i in self.complete])
        self.counted = [self.complete[i] for i in first]

    def errors(self) -> dict[str, str]:
        """Candidate name -> what went wrong, where something did."""
        errors = {
            t.candidate.name: f"distilled run: {t.error}" for t in self.search.trials if t.error
        }
        for name, error in self.full_runs.failures.items():
            errors.setdefault(name, f"full run: {error}")
        return errors

    def arm(self, runs: list[list[RunResult]], *, by_logloss: bool = False) -> Arm:
        """The counted candidates' figures, higher is better."""
        counted = [[r.evaluation for r in runs[i]] for i in self.counted]
        return Arm.of(counted, by_logloss=by_logloss)


class _Costs:
    """Wall-clock and row visits of both arms, over the candidates that finished in both.

    The search's wall-clock is that of all candidates, failed ones included.
    """

    def __init__(self, arms: _Arms, distill_seconds: float) -> None:
        full = [r for i in arms.complete for r in arms.full[i]]
        distilled = [r for i in arms.complete for r in arms.distilled[i]]
        self.num_workers = arms.search.num_workers
        self.num_runs = len(full)
        self.full_run_seconds = sum(r.seconds for r in full)
        self.distilled_run_seconds = sum(r.seconds for r in distilled)
        self.full_run_cpu_seconds = _total_or_none([r.cpu_seconds for r in full])
        self.distilled_run_cpu_seconds = _total_or_none([r.cpu_seconds for r in distilled])
        self.full_seconds = self.full_run_seconds / self.num_workers
        self.distilled_seconds = arms.search.wall_seconds
        self.distill_seconds = distill_seconds
        self.full_visits = float(np.mean([r.row_visits for r in full]))
        self.distilled_visits = float(np.mean([r.row_visits for r in distilled]))
        self.mean_full_train = float(np.mean([r.train_seconds for r in full]))
        self.mean_evaluation = float(np.mean([r.evaluation_seconds for r in full]))

    @property
    def amortised_fraction(self) -> float:
        """The share of the stream that a run can be trained on in an equal share of wall-clock.

        That of the distilled search and the distillation together, on the same workers, with one
        evaluation a run. Never below what a distilled run visits, nor above the whole stream.
        """
        total = (self.distilled_seconds + self.distill_seconds) * self.num_workers
        train = total / self.num_runs - self.mean_evaluation
        fraction = max(train / self.mean_full_train, self.distilled_visits / self.full_visits)
        return min(1.0, float(f"{fraction:.3g}"))


def _total_or_none(seconds: Sequence[float | None]) -> float | None:
    known = [s for s in seconds if s is not None]
    return sum(known) if len(known) == len(seconds) else None


def _baselines(
    setting: Setting,
    distilled: DistilledSet,
    arms: _Arms,
    costs: _Costs,
    config: ConsistencyConfig,
    proxy: Callable[[Batch], Tensor] | None,
    prior_reports: Sequence[dict[str, Any]],
    watch: Progress,
) -> dict[str, BaselineOutcome | str]:
    """Outcomes of the baselines asked for; a reason in place of those left out."""
    log, num_rows = setting.log, len(distilled.train)
    full = arms.arm(arms.full)
    num_first = min(log.num_train_rows, max(1, round(costs.distilled_visits)))
    drawn = baselines.random_rows(log, min(num_rows, log.num_train_rows), seed=_BASELINE_SEEDS)

    def few(train: TrainingRows) -> BaselineOutcome:
        return baselines.few_rows(setting, train, distilled.recipe, full)

    makers: dict[str, Callable[[], BaselineOutcome | str]] = {
        "random_hard": lambda: few(baselines.hard(drawn)),
        "random_soft": lambda: (
            "no proxy was given" if proxy is None else few(baselines.soft(drawn, proxy))
        ),
        "recent": lambda: few(baselines.hard(baselines.recent_rows(log, num_rows))),
        "early_stop": lambda: baselines.early_stop(
            setting, baselines.joined(first_rows(log, num_first))
        ),
        "equal_amortised": lambda: baselines.equal_amortised(setting, costs.amortised_fraction),
        "halving": lambda: baselines.halving(setting, costs.amortised_fraction),
        "prior": lambda: baselines.prior(setting, prior_reports),
    }
    outcomes: dict[str, BaselineOutcome | str] = {}
    for done, name in enumerate(BASELINES):
        watch(f"baseline {name}", done, len(BASELINES))
        outcomes[name] = makers[name]() if name in config.baselines else "not asked for"
    watch("baselines", len(BASELINES), len(BASELINES))
    return outcomes


def _report(
    distilled: DistilledSet,
    log: PreparedLog,
    config: ConsistencyConfig,
    rows: EvaluationRows,
    arms: _Arms,
    costs: _Costs,
    outcomes: dict[str, BaselineOutcome | str],
    dataset: str,
) -> ConsistencyReport:
    full, method = arms.arm(arms.full), arms.arm(arms.distilled)
    noise = resolution(method.ranking)
    score = method.ranking.mean(axis=1)
    counted = [arms.candidates[i] for i in arms.counted]
    means = full.ranking.mean(axis=1)
    better = np.flatnonzero(means >= np.median(means)).tolist()
    full_loss = arms.arm(arms.full, by_logloss=True)
    loss = arms.arm(arms.distilled, by_logloss=True).ranking.mean(axis=1)
    full_visits = costs.full_visits + FORWARD_SHARE * len(rows)
    distilled_visits = costs.distilled_visits + FORWARD_SHARE * rows.num_ranking
    errors = arms.errors()
    return ConsistencyReport(
        dataset=dataset,
        num_rows_full=log.num_train_rows,
        num_rows_distilled=len(distilled.train),
        row_fraction=len(distilled.train) / log.num_train_rows,
        byte_fraction=distilled.num_bytes / max(1, log.num_train_bytes),
        num_candidates=len(arms.candidates),
        num_counted=len(counted),
        num_seeds=len(config.seeds),
        num_evaluation_rows=len(rows),
        **fidelity(full, score),
        **ceiling(full),
        **intervals(full, method, num_replicates=config.num_replicates),
        distilled_seed_sd=noise.seed_sd if noise else None,
        resolution_threshold=noise.threshold if noise else None,
        num_unresolved_distilled_pairs=noise.num_unresolved_pairs if noise else None,
        row_visit_fraction=costs.distilled_visits / costs.full_visits,
        row_visit_fraction_with_evaluation=distilled_visits / full_visits,
        iteration_speedup=costs.full_seconds / costs.distilled_seconds,
        amortised_speedup=costs.full_seconds / (costs.distilled_seconds + costs.distill_seconds),
        full_seconds=costs.full_seconds,
        distilled_seconds=costs.distilled_seconds,
        distill_seconds=costs.distill_seconds,
        search_overhead_seconds=arms.search.search_overhead_s,
        full_run_seconds=costs.full_run_seconds,
        distilled_run_seconds=costs.distilled_run_seconds,
        full_run_cpu_seconds=costs.full_run_cpu_seconds,
        distilled_run_cpu_seconds=costs.distilled_run_cpu_seconds,
        num_workers=costs.num_workers,
        num_full_runs_reused=arms.full_runs.num_reused,
        candidates=[
            CandidateReport(
                name=c.name,
                config=to_mapping(c),
                full=_arm_report(arms.full[i]),
                distilled=_arm_report(arms.distilled[i]),
                counted=i in arms.counted,
                error=errors.get(c.name),
            )
            for i, c in enumerate(arms.candidates)
        ],
        baselines={
            name: _baseline_report(full, outcome, costs) for name, outcome in outcomes.items()
        },
        top_half={**fidelity(full[better], score[better]), **ceiling(full[better])},
        architecture_only=_over_pairs(full, score, _alike(counted, but="architecture")),
        hyper_parameter_only=_over_pairs(full, score, _same_architecture(counted)),
        logloss={**fidelity(full_loss, loss), **ceiling(full_loss)},
    )


def _over_pairs(full: Arm, score: Array, pairs: PairMask) -> dict[str, Any]:
    return {**fidelity(full, score, pairs), **ceiling(full, pairs)}


def _alike(candidates: list[Candidate], *, but: str) -> PairMask:
    """Pairs that differ in one key of a candidate alone, names apart; (n, n)."""
    keys = [
        tuple((k, str(v)) for k, v in to_mapping(c).items() if k not in ("name", but))
        for c in candidates
    ]
    values = [getattr(c, but) for c in candidates]
    return np.array(
        [
            [a == b and u != v for b, v in zip(keys, values, strict=True)]
            for a, u in zip(keys, values, strict=True)
        ],
        dtype=bool,
    ).reshape(len(keys), len(keys))


def _same_architecture(candidates: list[Candidate]) -> PairMask:
    names = np.array([c.architecture for c in candidates])
    mask: PairMask = names[:, None] == names[None, :]
    np.fill_diagonal(mask, False)
    return mask


def _arm_report(runs: list[RunResult]) -> ArmReport:
    return ArmReport(
        auc=[r.evaluation.auc for r in runs],
        logloss=[r.evaluation.logloss for r in runs],
        regret_auc=[r.evaluation.regret_auc for r in runs],
        seconds=[r.seconds for r in runs],
    )


def _baseline_report(full: Arm, outcome: BaselineOutcome | str, costs: _Costs) -> BaselineReport:
    if isinstance(outcome, str):
        empty: Any = dict.fromkeys(BaselineReport.__annotations__) | {
            "details": {"skipped": outcome}
        }
        return cast(BaselineReport, empty)
    known = np.flatnonzero(np.isfinite(outcome.score)).tolist()
    details = dict(outcome.details)
    if len(known) < len(outcome.score):
        details["num_failed"] = len(outcome.score) - len(known)
    return BaselineReport(
        **fidelity(full[known], outcome.score[known]),
        distilled_seconds=outcome.seconds / costs.num_workers,
        row_visit_fraction=outcome.row_visits / costs.full_visits,
        details=details,
    )
