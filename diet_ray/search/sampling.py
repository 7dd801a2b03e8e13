"""Rows of a prepared log by position, chosen without holding the log in memory.

A position is a row's place in the concatenation of the given stages, from 0. What is chosen
depends on positions and a seed alone, never on how the log is cut into shards.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from diet_ray.data.batch import Batch, concatenate
from diet_ray.data.encoding import to_batch
from diet_ray.data.log import PreparedLog, Stage
from diet_ray.errors import DataError

Positions = NDArray[np.int64]

_CHUNK = 1 << 20


def uniform(positions: Positions, seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) per position: splitmix64 of position and seed, top 53 bits."""
    with np.errstate(over="ignore"):
        x = positions.astype(np.uint64) + np.uint64(1)
        x = x * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed) * np.uint64(0xD1342543DE82EF95)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53


def random_positions(num_rows: int, num_chosen: int, seed: int) -> Positions:
    """`num_chosen` of `num_rows` positions, uniformly without replacement, in order."""
    kept: Positions = np.empty(0, np.int64)
    for start in range(0, num_rows, _CHUNK):
        chunk = np.arange(start, min(start + _CHUNK, num_rows), dtype=np.int64)
        kept = np.concatenate([kept, chunk])
        if len(kept) > num_chosen:
            keys = uniform(kept, seed)
            kept = kept[np.argpartition(keys, num_chosen - 1)[:num_chosen]]
    return np.sort(kept)


def even_positions(num_rows: int, num_chosen: int) -> Positions:
    """`num_chosen` evenly spaced positions of `num_rows`; all of them if that is fewer."""
    count = min(num_rows, num_chosen)
    return (np.arange(count, dtype=np.int64) * num_rows) // max(count, 1)


def take_rows(
    log: PreparedLog,
    stages: tuple[Stage, ...],
    positions: Positions,
    *,
    skip_unreadable: bool = False,
) -> Batch:
    """The rows at ascending `positions` (at least one), reading only the shards that hold them.

    Raises `DataError` naming a shard that can't be read; with `skip_unreadable` only if all are.
    """
    features = log.features
    parts = []
    start = 0
    unreadable: DataError | None = None
    for shard in (s for stage in stages for s in stage.shards):
        low, high = np.searchsorted(positions, [start, start + shard.num_rows])
        if high > low:
            try:
                table = log.read_shard(shard).take(positions[low:high] - start)
                parts.append(to_batch(table, features))
            except DataError as e:
                if not skip_unreadable:
                    raise
                unreadable = unreadable or e
        start += shard.num_rows
    if not parts and unreadable is not None:
        raise unreadable
    return concatenate(parts)


def subsample(
    log: PreparedLog, *, low: float, high: float, seed: int, device: str = "cpu"
) -> Iterator[Batch]:
    """The training rows whose uniform number lies in [low, high), in time order, shard by shard.

    Disjoint intervals give disjoint rows; the expected share of rows is high - low.
    """
    start = 0
    for batch in log.batches(log.train_stages, device):
        keys = uniform(np.arange(start, start + len(batch), dtype=np.int64), seed)
        start += len(batch)
        chosen = np.flatnonzero((keys >= low) & (keys < high))
        if len(chosen):
            yield batch[torch.from_numpy(chosen).to(batch.label.device)]


def first_rows(log: PreparedLog, num_rows: int, device: str = "cpu") -> Iterator[Batch]:
    """The first `num_rows` training rows, reading only the stages that hold them."""
    stages = []
    covered = 0
    for stage in log.train_stages:
        if covered >= num_rows:
            break
        stages.append(stage)
        covered += stage.num_rows
    left = num_rows
    for batch in log.batches(tuple(stages), device):
        if left <= 0:
            break
        yield batch[:left] if len(batch) > left else batch
        left -= len(batch)
