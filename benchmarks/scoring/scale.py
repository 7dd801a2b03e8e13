"""Fits the cost model on one and two workers, checks it on four nodes, and sizes larger clusters.

Nodes are simulated on one machine, which hasn't cores for their kernels. So Ray's part is measured
under tasks that wait as long as the kernel would compute, and answer with as many bytes; the speed
of the kernel itself is measured apart. What is checked is therefore dispatch, overhead, stragglers
and the driver. Beside that, the product itself is predicted on one and two scorers.
"""

from __future__ import annotations

import asyncio
import math
import os
import secrets
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ray.cloudpickle
from ray.cluster_utils import Cluster

from benchmarks.scoring.cost_model import CostModel, Run, fit
from benchmarks.scoring.encoded_log import SHARD_ROWS
from benchmarks.scoring.legs import OBJECT_STORE_BYTES, in_child, ray_folder, ray_session
from benchmarks.scoring.pipeline import checkpoint_of, product_leg, random_log
from diet_ray.cluster import connect
from diet_ray.data.log import PreparedLog, Shard
from diet_ray.influence.config import PoolConfig
from diet_ray.influence.scorer import Task
from diet_ray.influence.shard_pool import ShardPool
from diet_ray.models.catalogue import Candidate
from diet_ray.scoring.config import ScoreConfig
from diet_ray.scoring.prepare import prepare_scoring
from diet_ray.scoring.task import ScoreTask
from diet_ray.storage import Folder

FINE_SHARD_ROWS = SHARD_ROWS // 4
LARGE_ANSWER_BYTES = 16 * 1024**2
NUM_NODES = 4
NUM_WORKERS = 2
MEASURED_SHARDS = 4
SIZED_ROWS = {"KuaiRand-27K": 322_278_385, "10 billion rows": 10_000_000_000}
SIZED_SCORERS = (1, 2, 8, 32, 128, 512)


@dataclass(frozen=True, kw_only=True)
class ScaleSizes:
    num_rows: int = 2_000_000
    """Of the log that the product is run on."""
    scorer_s: float = 20.0
    """Seconds that a scorer waits in a run."""
    num_large_answers: int = 40
    num_dispatched: int = 400


QUICK = ScaleSizes(num_rows=500_000, scorer_s=3.0, num_large_answers=20, num_dispatched=100)


class Meeting:
    """Where scorers wait for each other before they begin. Runs as an asyncio actor."""

    def __init__(self, num_scorers: int) -> None:
        self._num_missing = num_scorers
        self._complete = asyncio.Event()
        self._complete_s = 0.0

    async def join(self) -> None:
        self._num_missing -= 1
        if self._num_missing == 0:
            self._complete_s = time.time()
            self._complete.set()
        await self._complete.wait()

    async def complete_s(self) -> float:
        """When the last one came."""
        return self._complete_s


@dataclass(frozen=True)
class Wait:
    """Makes a task that waits as if it computed, and answers with zeros."""

    kernel: Kernel
    meeting: Any

    def __call__(self) -> Task:
        ray.get(self.meeting.join.remote())
        return self.task

    def task(self, shard: Shard) -> bytes:
        time.sleep(shard.num_rows / self.kernel.rows_per_s)
        return bytes(self.kernel.shard_bytes)


@dataclass(frozen=True, kw_only=True)
class Kernel:
    rows_per_s: float
    shard_bytes: int
    """Of a shard's answer."""


def scale(sizes: ScaleSizes, model_name: str, folder: Path) -> dict[str, Any]:
    log = random_log(sizes.num_rows, folder)
    candidate = Candidate(name=model_name, architecture=model_name)
    kernel = in_child(measure_kernel, log.path, candidate, folder)
    model = in_child(fit_local, kernel, sizes)
    return {
        "scale": {
            "model": model_name,
            "cost_model": asdict(model),
            f"{NUM_NODES}_nodes": in_child(check_nodes, kernel, model, sizes),
            "product": {
                n: check_product(log, candidate, model, n, folder)
                for n in range(1, NUM_WORKERS + 1)
            },
            "sizing_s": sizing(model),
        }
    }


def sizing(model: CostModel) -> dict[str, dict[int, float]]:
    """Seconds by log and number of scorers."""
    return {
        name: {n: model.predict(num_rows, n, model.rows_per_s, SHARD_ROWS) for n in SIZED_SCORERS}
        for name, num_rows in SIZED_ROWS.items()
    }


def measure_kernel(log_path: str, candidate: Candidate, folder: Path) -> Kernel:
    """Of all that a scorer does with a shard: read, compute, write, answer.

    By the thread's CPU time, and the best of several, so that other work hardly counts.
    """
    log = PreparedLog.open(log_path)
    shards = [s for stage in log.stages for s in stage.shards][:MEASURED_SHARDS]
    config = ScoreConfig(scores=("full",))
    rates = []
    with tempfile.TemporaryDirectory(dir=folder) as out:
        checkpoints = (checkpoint_of(candidate, log),)
        scoring = prepare_scoring(log, checkpoints, config, Folder.at(out))
        task = ScoreTask(lambda: scoring)
        for shard in shards:
            begin_s = time.thread_time()
            answer = task(shard)
            rates.append(shard.num_rows / (time.thread_time() - begin_s))
    return Kernel(rows_per_s=max(rates), shard_bytes=len(answer))


def fit_local(kernel: Kernel, sizes: ScaleSizes) -> CostModel:
    """The cost model of one and of two workers on this machine."""
    instant = replace(kernel, rows_per_s=math.inf)
    large = replace(instant, shard_bytes=LARGE_ANSWER_BYTES)
    runs: list[Run] = []
    with ray_session(NUM_WORKERS):
        for num_scorers in range(1, NUM_WORKERS + 1):
            for rows in (FINE_SHARD_ROWS, SHARD_ROWS):
                found = shard_sizes(kernel, num_scorers, rows, sizes.scorer_s)
                runs.append(timed_run(kernel, found, num_scorers))
        runs.append(timed_run(large, (0,) * sizes.num_large_answers, NUM_WORKERS))
        # More scorers than the driver can keep busy.
        many = timed_run(instant, (0,) * sizes.num_dispatched, 2 * NUM_WORKERS, 0.5)
    dispatch_s = many.seconds / len(many.shard_rows)
    return replace(fit(runs), dispatch_s=dispatch_s, shard_bytes=kernel.shard_bytes)


def check_nodes(kernel: Kernel, model: CostModel, sizes: ScaleSizes) -> dict[str, float]:
    """Predicted and measured seconds on simulated nodes of one scorer each."""
    with ray_folder():
        # As `connect` does for a local cluster: otherwise Ray writes a token to the home folder.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        cluster = Cluster(initialize_head=True, head_node_args=_node_settings(0))
        for _ in range(NUM_NODES):
            cluster.add_node(**_node_settings(1))
        connect(cluster.address)
        rows = shard_sizes(kernel, NUM_NODES, SHARD_ROWS, sizes.scorer_s)
        run = timed_run(kernel, rows, NUM_NODES, 0.9)
        ray.shutdown()
        cluster.shutdown()
    return compared(model, run)


def check_product(
    log: PreparedLog, candidate: Candidate, model: CostModel, num_scorers: int, folder: Path
) -> dict[str, float]:
    """Predicted and measured seconds of the product on this machine."""
    config = ScoreConfig(scores=("full",), num_scorers=num_scorers)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        target = Path(out) / "scored"
        leg = in_child(product_leg, log.path, candidate, config, NUM_WORKERS, target, False)
    rows = tuple(s.num_rows for stage in log.stages for s in stage.shards)
    run = Run(
        shard_rows=rows,
        num_scorers=num_scorers,
        num_bytes=len(rows) * model.shard_bytes,
        startup_s=leg.startup_s,
        seconds=leg.seconds - leg.startup_s,
    )
    return compared(model, run)


def compared(model: CostModel, run: Run) -> dict[str, float]:
    """Seconds after start-up, predicted and measured: scorers that start side by side on one
    machine wait for each other, so their start-up says nothing of nodes."""
    predicted_s = model.seconds(run.shard_rows, run.num_scorers, run.num_bytes) - model.startup_s
    return {
        "num_shards": len(run.shard_rows),
        "predicted_s": predicted_s,
        "measured_s": run.seconds,
        "error": predicted_s / run.seconds - 1.0,
        "startup_s": run.startup_s,
    }


def shard_sizes(
    kernel: Kernel, num_scorers: int, shard_rows: int, scorer_s: float
) -> tuple[int, ...]:
    """Shards that keep each scorer busy for about so many seconds."""
    per_scorer = max(1, round(scorer_s * kernel.rows_per_s / shard_rows))
    return (shard_rows,) * (per_scorer * num_scorers)


def timed_run(
    kernel: Kernel, shard_rows: tuple[int, ...], num_scorers: int, cpus_per_scorer: float = 1.0
) -> Run:
    """Waits for shards of these sizes on a pool, until that has ended."""
    shards = [
        Shard(
            index=i,
            stage=0,
            file="none",
            first_row_group=i,
            num_row_groups=1,
            num_rows=rows,
            first_row=0,
        )
        for i, rows in enumerate(shard_rows)
    ]
    config = PoolConfig(num_scorers=num_scorers, cpus_per_scorer=cpus_per_scorer)
    meeting = ray.remote(num_cpus=0)(Meeting).remote(num_scorers)
    begin_s = time.time()
    with ShardPool(shards, Wait(kernel, meeting), config, "waiting") as pool:
        num_bytes = sum(len(result.content or b"") for result in pool.arrivals())
    end_s = time.time()
    ready_s = ray.get(meeting.complete_s.remote())
    ray.kill(meeting)
    run = Run(
        shard_rows=shard_rows,
        num_scorers=num_scorers,
        num_bytes=num_bytes,
        startup_s=ready_s - begin_s,
        seconds=end_s - ready_s,
    )
    print(
        f"{len(shard_rows)} shards of {shard_rows[0]} rows, {num_scorers} scorers: "
        f"{run.seconds:.2f} s after {run.startup_s:.2f} s",
        file=sys.stderr,
        flush=True,
    )
    return run


def _node_settings(num_cpus: int) -> dict[str, Any]:
    return {"num_cpus": num_cpus, "object_store_memory": OBJECT_STORE_BYTES // (NUM_NODES + 1)}


# Workers don't have this folder on their path.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
