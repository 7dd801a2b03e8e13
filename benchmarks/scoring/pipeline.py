"""Scoring a log from end to end, against a plain loop over the same kernels.

The product's steady speed begins when each scorer has written a shard and includes all that comes
after the last one; its start-up is what came before, less one shard's time. Legs take turns.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.processes import CpuClock, PeakMemory, use_cores
from benchmarks.scoring.encoded_log import SHARD_ROWS, write_random_log
from benchmarks.scoring.legs import in_child, ray_session
from benchmarks.scoring.plain import PlainLeg, plain_leg
from diet_ray.data.log import PreparedLog
from diet_ray.models.catalogue import Candidate, build
from diet_ray.scoring.checkpoint import Checkpoint
from diet_ray.scoring.config import ScoreConfig
from diet_ray.scoring.score_log import SCORES, score_log
from diet_ray.scoring.shard_file import shard_file

NUM_SCORERS = 2


@dataclass(frozen=True, kw_only=True)
class PipelineSizes:
    num_rows: int = 20_000_000
    num_few_rows: int = 5_000_000
    """For the growth of memory."""
    rounds: int = 2


QUICK = PipelineSizes(num_rows=1_000_000, num_few_rows=250_000, rounds=1)


@dataclass(frozen=True, kw_only=True)
class Leg:
    num_rows: int
    num_scorers: int
    seconds: float
    startup_s: float
    rows_per_s: float
    """Steady."""
    rows_per_cpu_s: float
    """Steady, by CPU seconds of all processes: what other work on the machine hardly changes."""
    peak_pss_gib: float | None


def random_log(num_rows: int, folder: Path) -> PreparedLog:
    """Found in `folder`, or written into it."""
    # As many rows a stage as thirty stages of twenty million have.
    num_stages = max(1, num_rows // 666_666)
    return write_random_log(num_rows, folder / f"random-{num_rows}", num_stages=num_stages)


def checkpoint_of(candidate: Candidate, log: PreparedLog) -> Checkpoint:
    return Checkpoint(
        name=candidate.name,
        candidate=candidate,
        features=log.features,
        weights=build(candidate, log.features, seed=0).state_dict(),
    )


def product_leg(
    log_path: str,
    candidate: Candidate,
    config: ScoreConfig,
    num_cores: int,
    out: Path,
    with_memory: bool,
) -> Leg:
    """One run of the product with all of its processes on `num_cores` cores."""
    use_cores(num_cores)
    log = PreparedLog.open(log_path)
    checkpoint = checkpoint_of(candidate, log)
    with ExitStack() as watches:
        clock = watches.enter_context(CpuClock())
        memory = watches.enter_context(PeakMemory(lambda: "run")) if with_memory else None
        with ray_session(num_cores):
            begin_s = time.time()
            score_log(log, (checkpoint,), config, out, Console(quiet=True))
            end_s = time.time()
    assert isinstance(config.num_scorers, int)
    return Leg(
        num_rows=sum(s.num_rows for s in log.stages),
        num_scorers=config.num_scorers,
        seconds=end_s - begin_s,
        peak_pss_gib=None if memory is None else memory.part_peak_bytes["run"] / 1024**3,
        **_phases(log, out, begin_s, end_s, config.num_scorers, clock),
    )


def _phases(
    log: PreparedLog, out: Path, begin_s: float, end_s: float, num_scorers: int, clock: CpuClock
) -> dict[str, float]:
    """Start-up and steady speed, by the times of the files that were written."""
    shards = [shard for stage in log.stages for shard in stage.shards]
    done_s = np.array([(out / SCORES / shard_file(s)).stat().st_mtime for s in shards])
    order = np.argsort(done_s)
    rows = np.array([s.num_rows for s in shards])[order]
    steady_from_s, steady_rows = done_s[order[num_scorers - 1]], rows[num_scorers:].sum()
    rows_per_s = steady_rows / (end_s - steady_from_s)
    first_shard_s = rows[0] * num_scorers / rows_per_s
    return {
        "startup_s": float(done_s[order[0]] - begin_s - first_shard_s),
        "rows_per_s": float(rows_per_s),
        "rows_per_cpu_s": float(steady_rows / clock.between(steady_from_s, end_s)),
    }


def pipeline(sizes: PipelineSizes, model_name: str, folder: Path) -> dict[str, Any]:
    log, few = random_log(sizes.num_rows, folder), random_log(sizes.num_few_rows, folder)
    candidate = Candidate(name=model_name, architecture=model_name)
    config = ScoreConfig(scores=("full",), num_scorers=NUM_SCORERS)
    alone = ScoreConfig(scores=("full",), num_scorers=1)
    _read_all(log)
    plain: list[PlainLeg] = []
    two: list[Leg] = []
    one: list[Leg] = []
    with tempfile.TemporaryDirectory(dir=folder) as out:
        for _ in range(sizes.rounds):
            plain.append(_plain_leg(log, candidate, config, Path(out)))
            two.append(_product_leg(log, candidate, config, NUM_SCORERS, Path(out)))
            one.append(_product_leg(log, candidate, alone, 1, Path(out)))
        memory = {
            n: _product_leg(each, candidate, config, NUM_SCORERS, Path(out), with_memory=True)
            for n, each in ((sizes.num_few_rows, few), (sizes.num_rows, log))
        }
    peaks = {n: leg.peak_pss_gib or 0.0 for n, leg in memory.items()}
    shard_s = SHARD_ROWS * NUM_SCORERS / median(leg.rows_per_s for leg in two)
    return {
        "pipeline_vs_kernels": median(
            a.rows_per_s / b.rows_per_s for a, b in zip(two, plain, strict=True)
        ),
        "pipeline_vs_kernels_by_cpu_time": median(
            a.rows_per_cpu_s / b.rows_per_cpu_s for a, b in zip(two, plain, strict=True)
        ),
        "startup_s": median(leg.startup_s for leg in two),
        "scaling_1_to_2": median(
            a.rows_per_s / b.rows_per_s for a, b in zip(two, one, strict=True)
        ),
        "peak_memory_ratio_20m_to_5m": peaks[sizes.num_rows] / peaks[sizes.num_few_rows],
        "pipeline": {
            "model": model_name,
            "num_rows": sizes.num_rows,
            "shard_s": shard_s,
            "plain": [asdict(leg) for leg in plain],
            "two_scorers": [asdict(leg) for leg in two],
            "one_scorer_one_core": [asdict(leg) for leg in one],
            "peak_pss_gib": peaks,
        },
    }


def _plain_leg(log: PreparedLog, candidate: Candidate, config: ScoreConfig, out: Path) -> PlainLeg:
    folder = out / "plain"
    leg = in_child(plain_leg, log.path, candidate, NUM_SCORERS, config.batch_size, folder)
    shutil.rmtree(folder)
    print(leg, file=sys.stderr, flush=True)
    return leg


def _product_leg(
    log: PreparedLog,
    candidate: Candidate,
    config: ScoreConfig,
    num_cores: int,
    out: Path,
    with_memory: bool = False,
) -> Leg:
    folder = out / "product"
    leg = in_child(product_leg, log.path, candidate, config, num_cores, folder, with_memory)
    shutil.rmtree(folder)
    print(leg, file=sys.stderr, flush=True)
    return leg


def _read_all(log: PreparedLog) -> None:
    """Puts the log into the page cache, so that no leg pays for the disk."""
    for name in {shard.file for stage in log.stages for shard in stage.shards}:
        with open(os.path.join(log.path, name), "rb") as file:
            while file.read(1 << 24):
                pass
