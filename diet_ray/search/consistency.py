"""Does the ranking on the distilled dataset agree with full-data training, and at what cost?

Both arms train every candidate with every seed and are judged on the same rows; arms never share
an initialisation, so that none of their agreement comes from it.

Seconds are wall-clock on as many workers: what the full runs took, back to back on every worker
and without their start-up, against all of the distilled search from its call to its return. So
runs that were read from disk count as when they were paid for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from diet_ray.data.batch import Batch
from diet_ray.data.log import PreparedLog
from diet_ray.errors import ConfigError, DataError
from diet_ray.models.catalogue import Candidate
from diet_ray.search import baselines
from diet_ray.search.arms import Arms, Costs
from diet_ray.search.baselines import BASELINES, BaselineOutcome, Setting
from diet_ray.search.consistency_report import ConsistencyReport, report_of
from diet_ray.search.distilled_set import DistilledSet
from diet_ray.search.evaluation import EvaluationRows, evaluation_rows
from diet_ray.search.run_set import DistilledRows
from diet_ray.search.runs import FullRunConfig, TrainingRows
from diet_ray.search.same_features import require_same_features
from diet_ray.search.sampling import first_rows
from diet_ray.search.trials import SearchConfig, SearchResult, search
from diet_ray.search.workers import WorkersConfig
from diet_ray.training.full_runs import FullRuns, train_full

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
    arms = Arms(tuple(candidates), config.seeds, found, full)
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
    costs = Costs(arms, distilled.distill_seconds)
    outcomes = _baselines(setting, distilled, arms, costs, config, proxy, prior_reports, watch)
    return report_of(distilled, log, rows, arms, costs, outcomes, dataset, config.num_replicates)


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


def _baselines(
    setting: Setting,
    distilled: DistilledSet,
    arms: Arms,
    costs: Costs,
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
            "no proxy was given"
            if proxy is None
            else few(baselines.soft(drawn, proxy, distilled.recipe.residual_share))
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
