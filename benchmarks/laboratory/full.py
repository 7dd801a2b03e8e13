"""Full runs of all candidates, kept by content hash so that they are paid for once."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.laboratory.workers import run_all
from diet_ray.data.log import PreparedLog
from diet_ray.models.catalogue import Candidate
from diet_ray.search.evaluation import EvaluationRows
from diet_ray.search.runs import FullRunConfig, RunResult, full_run
from diet_ray.storage import Folder
from diet_ray.training.full_runs import cost, read_result, run_file, write_result


@dataclass(frozen=True)
class _Shared:
    log: PreparedLog
    rows: EvaluationRows


def _run(shared: _Shared, item: tuple[Candidate, int]) -> RunResult:
    candidate, seed = item
    return full_run(candidate, shared.log, seed, shared.rows, FullRunConfig())


def full_runs(
    log: PreparedLog,
    rows: EvaluationRows,
    candidates: Sequence[Candidate],
    seeds: Sequence[int],
    folder: Folder,
    num_workers: int,
) -> dict[tuple[str, int], RunResult]:
    """By candidate name and seed; those that `folder` doesn't hold are run now."""
    found: dict[tuple[str, int], RunResult] = {}
    missing: list[tuple[Candidate, int]] = []
    files = {}
    for c in candidates:
        for s in seeds:
            files[c.name, s] = run_file(c, s, log, rows, FullRunConfig(), use_gpu=False)
            kept = read_result(folder, files[c.name, s])
            if kept is None:
                missing.append((c, s))
            else:
                found[c.name, s] = kept
    missing.sort(key=lambda item: -cost(item[0], log))
    begin_s = time.perf_counter()
    for (c, s), result in zip(
        missing, run_all(_run, _Shared(log, rows), missing, num_workers), strict=True
    ):
        write_result(folder, files[c.name, s], result)
        found[c.name, s] = result
    if missing:
        seconds = time.perf_counter() - begin_s
        print(f"{log.path}: {len(missing)} full runs in {seconds:.0f} s", file=sys.stderr)
    return found
