"""What somebody would write who needs the scores once: a loop in each of two plain processes.

Each reads every second shard by pyarrow, takes the same kernels, and writes a Parquet file with the
columns that the product writes. No Ray, no summary, no resume.
"""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.processes import use_cores
from diet_ray.data.encoding import to_batch
from diet_ray.data.log import PreparedLog, Shard
from diet_ray.influence.gradients import row_gradients, squared_norm
from diet_ray.models.base import Recommender
from diet_ray.models.catalogue import Candidate, build

CARRIED = ["_row", "_timestamp", "_label"]


@dataclass(frozen=True, kw_only=True)
class PlainLeg:
    """From the moment that all processes are ready."""

    rows_per_s: float
    rows_per_cpu_s: float


def plain_leg(
    log_path: str, candidate: Candidate, num_processes: int, batch_size: int, out: Path
) -> PlainLeg:
    """Scores a log on as many cores as there are processes."""
    use_cores(num_processes)
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(num_processes)
    receivers, processes = [], []
    for index in range(num_processes):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(
            target=_work,
            args=(log_path, candidate, index, num_processes, batch_size, out, ready, sender),
        )
        process.start()
        sender.close()
        receivers.append(receiver)
        processes.append(process)
    begins, ends, cpu_seconds = zip(*(receiver.recv() for receiver in receivers), strict=True)
    for process in processes:
        process.join()
    num_rows = sum(s.num_rows for s in PreparedLog.open(log_path).stages)
    return PlainLeg(
        rows_per_s=num_rows / (max(ends) - min(begins)),
        rows_per_cpu_s=num_rows / sum(cpu_seconds),
    )


def _work(
    log_path: str,
    candidate: Candidate,
    index: int,
    num_processes: int,
    batch_size: int,
    out: Path,
    ready: Barrier,
    sender: Connection,
) -> None:
    torch.set_num_threads(1)
    log = PreparedLog.open(log_path)
    model = build(candidate, log.features, seed=0).requires_grad_(False).eval()
    shards = [shard for stage in log.stages for shard in stage.shards][index::num_processes]
    out.mkdir(parents=True, exist_ok=True)
    # As ready as a scorer that has done its first rows.
    first = to_batch(_read(log, shards[0]), log.features)[:batch_size]
    row_gradients(model, first, first.label, "all")
    ready.wait()
    begin_s, begin_cpu_s = time.monotonic(), time.process_time()
    for shard in shards:
        score_shard(model, log, shard, batch_size, out)
    sender.send((begin_s, time.monotonic(), time.process_time() - begin_cpu_s))


def score_shard(
    model: Recommender, log: PreparedLog, shard: Shard, batch_size: int, out: Path
) -> None:
    table = _read(log, shard)
    rows = to_batch(table, log.features)
    norms = []
    for i in range(0, len(rows), batch_size):
        batch = rows[i : i + batch_size]
        gradients = row_gradients(model, batch, batch.label, "all")
        norms.append(squared_norm(gradients).sqrt())
    scored = table.select(CARRIED).append_column("full", pa.array(torch.cat(norms).numpy()))
    pq.write_table(
        scored,
        out / f"{shard.index:06d}.parquet",
        compression="lz4",
        use_dictionary=["_label"],
        write_statistics=False,
    )


def _read(log: PreparedLog, shard: Shard) -> pa.Table:
    groups = range(shard.first_row_group, shard.first_row_group + shard.num_row_groups)
    with pq.ParquetFile(Path(log.path) / shard.file) as file:
        return file.read_row_groups(list(groups), use_threads=False).combine_chunks()
