"""What a comparison found, as `consistency.json` holds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import numpy as np

from diet_ray.config import to_mapping
from diet_ray.data.log import PreparedLog
from diet_ray.models.catalogue import Candidate
from diet_ray.search.agreement import Arm, Ceiling, Fidelity, ceiling, fidelity, intervals
from diet_ray.search.arms import Arms, Costs
from diet_ray.search.baselines import BaselineOutcome
from diet_ray.search.distilled_set import DistilledSet
from diet_ray.search.evaluation import EvaluationRows
from diet_ray.search.resolution import resolution
from diet_ray.search.runs import FORWARD_SHARE, RunResult
from diet_ray.search.statistics import Array, PairMask
from diet_ray.storage import Folder


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


def write(report: ConsistencyReport, path: str | Path) -> None:
    """Writes the report as JSON, whole or not at all."""
    path = Path(path)
    content = json.dumps(report, indent=1, allow_nan=False)
    Folder.at(path.parent).write(path.name, content.encode())


def report_of(
    distilled: DistilledSet,
    log: PreparedLog,
    rows: EvaluationRows,
    arms: Arms,
    costs: Costs,
    outcomes: dict[str, BaselineOutcome | str],
    dataset: str,
    num_replicates: int,
) -> ConsistencyReport:
    """The report of a comparison on the evaluation rows `rows`; `num_replicates` are those of the
    bootstrap behind its intervals."""
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
        num_seeds=arms.num_seeds,
        num_evaluation_rows=len(rows),
        **fidelity(full, score),
        **ceiling(full),
        **intervals(full, method, num_replicates=num_replicates),
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


def _baseline_report(full: Arm, outcome: BaselineOutcome | str, costs: Costs) -> BaselineReport:
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
