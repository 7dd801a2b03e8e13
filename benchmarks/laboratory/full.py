"""Full runs of all candidates, which everything else is held against."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.laboratory.ledger import Ledger
from benchmarks.laboratory.workers import run_all
from diet_ray.data.log import PreparedLog
from diet_ray.models.catalogue import Candidate
from diet_ray.search.evaluation import Evaluation, EvaluationRows
from diet_ray.search.runs import FullRunConfig, full_run
from diet_ray.training.full_runs import cost, run_file


@dataclass(frozen=True, kw_only=True)
class FullRun:
    evaluation: Evaluation
    seconds: float
    """Of one core, reading and evaluation included."""


@dataclass(frozen=True)
class _Shared:
    log: PreparedLog
    rows: EvaluationRows


def _run(shared: _Shared, item: tuple[Candidate, int]) -> FullRun:
    candidate, seed = item
    begin_s = time.process_time()
    run = full_run(candidate, shared.log, seed, shared.rows, FullRunConfig())
    return FullRun(evaluation=run.evaluation, seconds=time.process_time() - begin_s)


def full_runs(
    log: PreparedLog,
    rows: EvaluationRows,
    candidates: Sequence[Candidate],
    seeds: Sequence[int],
    ledger: Ledger,
    num_workers: int,
) -> list[list[FullRun]]:
    """By candidate, then seed; those that the ledger doesn't hold are run now."""
    keys = {
        (c.name, s): run_file(c, s, log, rows, FullRunConfig(), use_gpu=False).removesuffix(".json")
        for c in candidates
        for s in seeds
    }
    missing = [(c, s) for c in candidates for s in seeds if ledger.get(keys[c.name, s]) is None]
    missing.sort(key=lambda item: -cost(item[0], log))
    begin_s = time.perf_counter()
    runs = run_all(_run, _Shared(log, rows), missing, num_workers)
    for (c, s), run in zip(missing, runs, strict=True):
        ledger.put(keys[c.name, s], asdict(run))
    if missing:
        seconds = time.perf_counter() - begin_s
        print(f"{log.path}: {len(missing)} full runs in {seconds:.0f} s", file=sys.stderr)
    return [[_read(ledger.get(keys[c.name, s])) for s in seeds] for c in candidates]


def _read(entry: dict) -> FullRun:
    evaluation = entry["evaluation"] | {"block_auc": tuple(entry["evaluation"]["block_auc"])}
    return FullRun(evaluation=Evaluation(**evaluation), seconds=entry["seconds"])
