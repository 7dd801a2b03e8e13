"""Distilled search: every candidate trained on the distilled rows and judged, on Ray Tune.

A trial is a group of candidates, see `diet_ray.search.groups`; a candidate that raises, or takes
its process down, is reported against its name, and the others go on.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler

from diet_ray.config import to_mapping
from diet_ray.errors import ConfigError
from diet_ray.models.catalogue import Candidate
from diet_ray.search.group_trial import STORAGE_PREFIX, Outcome, Work, run_groups
from diet_ray.search.groups import Group, groups
from diet_ray.search.populations import Populations, PopulationTrial
from diet_ray.search.proposals import Proposals
from diet_ray.search.records import Records, TrialResult
from diet_ray.search.resolution import Resolution, resolution
from diet_ray.search.run_set import DistilledRows
from diet_ray.search.workers import WorkersConfig
from diet_ray.storage import Folder
from diet_ray.training.config import Rates
from diet_ray.training.full_runs import FullRuns


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How candidates are tried on a distilled dataset."""

    seeds: tuple[int, ...] = (0, 1)
    scheduler: Literal["all", "asha", "pbt"] = "all"
    """`all` trains every candidate to the end; `asha` stops the weaker half at each report; `pbt`
    lets candidates that differ in rates alone go on from one another's weights, see `populations`.
    """
    num_reports: int = 4
    """With `asha` and `pbt`: how often a candidate is judged along its runs, the end included."""

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError("seeds must be distinct whole numbers from 0, at least one")
        if self.num_reports < 1:
            raise ValueError("num_reports must be at least 1")

    @property
    def reports(self) -> int:
        """How often a candidate that isn't stopped is judged."""
        return 1 if self.scheduler == "all" else self.num_reports


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    trials: tuple[TrialResult, ...]
    """In the order of the candidates."""
    wall_seconds: float
    """Of calls that were cut off before, up to what they had recorded, and of this one."""
    search_overhead_s: float
    """Wall-clock beyond what training and evaluation alone take on as many workers."""
    num_workers: int

    @property
    def ranking(self) -> tuple[TrialResult, ...]:
        """Best first: those that went furthest, by mean AUC; failed candidates are left out."""
        finished = [t for t in self.trials if t.runs]
        return tuple(sorted(finished, key=lambda t: (-t.num_reports, -(t.mean_auc or 0.0))))

    @property
    def resolution(self) -> Resolution | None:
        """What the ranking's scores resolve, in its order; None with a single seed."""
        ranking = self.ranking
        if not ranking:
            return None
        scores = np.array([[r.evaluation.auc for r in t.runs] for t in ranking])
        return resolution(scores, np.array([t.num_reports for t in ranking]))


def write_ranking(
    result: SearchResult,
    folder: str | Path,
    calibration: Mapping[str, Any] | None = None,
    full: FullRuns | None = None,
) -> None:
    """Writes `ranking.json`: the candidates, best first, and what of their order is noise.

    Without an estimate of noise (a single seed) its figures are null; `calibration`, plain values,
    says how the recipe was chosen, null if it wasn't; `full` are full runs of the best, whose mean
    AUC is null for all others. Raises `OutputError`.
    """
    found = result.resolution
    keys = ("seed_sd", "threshold", "num_pairs", "num_unresolved_pairs")
    content = {key: getattr(found, key, None) for key in keys} | {
        "ranking": [
            {
                "candidate": to_mapping(trial.trained),
                "mean_auc": trial.mean_auc,
                "full_auc": None if full is None else full.mean_auc(trial.candidate.name),
                "places": None if found is None else found.places[i],
                "num_reports": trial.num_reports,
            }
            for i, trial in enumerate(result.ranking)
        ],
        "failed": {t.candidate.name: t.error for t in result.trials if not t.runs},
        "calibration": calibration,
    }
    text = json.dumps(content, indent=1, allow_nan=False)
    Folder.at(folder).write("ranking.json", text.encode())


def search(
    candidates: Sequence[Candidate] | Proposals,
    rows: DistilledRows,
    config: SearchConfig | None = None,
    workers: WorkersConfig | None = None,
    out: str | Path | None = None,
    on_trial: Callable[[TrialResult], None] | None = None,
) -> SearchResult:
    """Trains every candidate on the distilled rows; a line of `<out>/trials.jsonl` each.

    Candidates, whose names must be unique, are judged on the ranking slice of the evaluation rows.
    What is on record in `out` of the same rows, recipe and settings isn't done again. Raises
    `ConfigError` for candidates that `pbt` can't take, `ClusterError` if the cluster has too few
    CPUs, `OutputError` if `out` can't be written.
    """
    config = config or SearchConfig()
    begin_s = time.perf_counter()
    proposals = candidates if isinstance(candidates, Proposals) else None
    listed = () if isinstance(candidates, Proposals) else tuple(candidates)
    if config.scheduler == "pbt":
        _check_rates_are_free(proposals, listed)
    num_candidates = len(listed) if proposals is None else proposals.num_samples
    resolved = (workers or WorkersConfig()).resolve(num_candidates)
    device = "cuda" if resolved.use_gpu else "cpu"
    rows = replace(rows, evaluation=rows.evaluation.ranking_alone())
    records = Records(out, rows, to_mapping(config) | {"device": device})
    if proposals is None:
        known = {c.name: t for c in listed if (t := records.known(c)) is not None}
    else:
        proposed = [t for t in records.finished() if proposals.values(t.candidate) is not None]
        known = {t.candidate.name: t for t in proposed[:num_candidates]}
    before_s = records.seconds([t.candidate for t in known.values()])
    trials = dict(known)

    def on_outcome(outcome: Outcome) -> None:
        trial = _trial(outcome, config)
        trials[outcome.candidate.name] = trial
        records.add(trial, before_s + time.perf_counter() - begin_s)
        if on_trial is not None:
            on_trial(trial)

    if on_trial is not None:
        for trial in known.values():
            on_trial(trial)
    work = Work(
        groups=(),
        candidates=tuple(c for c in listed if c.name not in known),
        proposals=proposals,
        rows=rows,
        seeds=config.seeds,
        num_reports=config.reports,
        device=device,
        num_threads=resolved.cpus_per_worker,
    )
    # Ray takes a relative path for a URI without a scheme.
    storage = None if out is None else Path(out).absolute()
    _train(work, config, resolved, list(known.values()), on_outcome, storage)
    wall_seconds = before_s + time.perf_counter() - begin_s
    num_workers = resolved.num_workers or 1
    busy_s = sum(r.seconds for t in trials.values() for r in t.runs) / num_workers
    names = list(trials) if proposals else [c.name for c in listed]
    return SearchResult(
        trials=tuple(trials[name] for name in names),
        wall_seconds=wall_seconds,
        search_overhead_s=max(0.0, wall_seconds - busy_s),
        num_workers=num_workers,
    )


def _train(
    work: Work,
    config: SearchConfig,
    workers: WorkersConfig,
    known: Sequence[TrialResult],
    on_outcome: Callable[[Outcome], None],
    storage: Path | None,
) -> None:
    """All that isn't known; a candidate whose process died has that as its outcome."""

    def run(own: Work, known: Sequence[tuple[dict[str, Any], float]] = ()) -> dict[str, str]:
        return run_groups(own, workers, _scheduler(config), on_outcome, known)

    if work.proposals is not None:
        before = [(work.proposals.values(t.candidate), t.mean_auc) for t in known]
        pairs = [(v, auc) for v, auc in before if v is not None and auc is not None]
        if len(pairs) < work.proposals.num_samples:
            # Proposed one at a time, each is in a trial of its own.
            for name, reason in run(work, pairs).items():
                candidate = Candidate(name=name, architecture=name.partition("-")[0])
                on_outcome(Outcome(candidate, 0, reason))
        return
    candidates = work.candidates
    if not candidates:
        return
    alone: list[Group] = [((i,),) for i in range(len(candidates))]
    if config.scheduler == "pbt":
        own = replace(work, groups=alone)
        scheduler = Populations(candidates)
        for left in storage.glob(f"{STORAGE_PREFIX}*") if storage is not None else ():
            # Of a search that was killed.
            shutil.rmtree(left, ignore_errors=True)
        lost = run_groups(
            own, workers, scheduler, on_outcome, trial=PopulationTrial, storage=storage
        )
    elif config.scheduler != "all":
        # A scheduler stops trials, so that a trial is what it can stop.
        lost = run(replace(work, groups=alone))
    else:
        together = groups(candidates, work.rows, len(work.seeds), workers.num_workers or 1)
        lost = run(replace(work, groups=together))
        # Which of a group took the process down? By themselves, they tell.
        shared = {i for group in together if sum(map(len, group)) > 1 for own in group for i in own}
        again = [i for i in sorted(shared) if candidates[i].name in lost]
        if again:
            lost = {n: r for n, r in lost.items() if n not in {candidates[i].name for i in again}}
            lost |= run(replace(work, groups=[alone[i] for i in again]))
    by_name = {c.name: c for c in candidates}
    for name, reason in lost.items():
        on_outcome(Outcome(by_name[name], 0, reason))


def _check_rates_are_free(proposals: Proposals | None, listed: Sequence[Candidate]) -> None:
    if proposals is not None:
        raise ConfigError(
            "candidates: optuna: proposes candidates one after the other, and `pbt` trains them "
            "together: take `random:`, or another scheduler"
        )
    if changing := next((c.name for c in listed if c.schedule), None):
        raise ConfigError(
            f"candidate `{changing}`: schedule: `pbt` is to find it: leave it out, or take another "
            "scheduler"
        )


def _trial(outcome: Outcome, config: SearchConfig) -> TrialResult:
    candidate, result = outcome.candidate, outcome.result
    schedule: tuple[Rates, ...] = ()
    if config.scheduler == "pbt":
        candidate, schedule = replace(candidate, schedule=()), candidate.schedule
    if isinstance(result, str):
        return TrialResult(candidate=candidate, runs=(), num_reports=0, error=result)
    return TrialResult(
        candidate=candidate, runs=result, num_reports=outcome.num_reports, schedule=schedule
    )


def _scheduler(config: SearchConfig) -> Any:
    if config.scheduler == "all":
        return FIFOScheduler()
    return AsyncHyperBandScheduler(
        time_attr="training_iteration",
        max_t=config.num_reports,
        grace_period=1,
        reduction_factor=2,
    )
