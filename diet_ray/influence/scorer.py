"""What an actor of the pool runs."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray

from diet_ray.data.log import Shard
from diet_ray.errors import DietError
from diet_ray.influence.attempts import MAX_ATTEMPTS, Seats

_M_ARENA_MAX = -8
"""Of <malloc.h>."""
Task = Callable[[Shard], bytes | None]
"""What is done with a shard. Called by several threads at once if a scorer holds several shards."""

_RESULT = pa.schema(
    {"shard": pa.int64(), "content": pa.large_binary(), "error": pa.string()},
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a scorer is made of."""

    make_task: Callable[[], Task]
    attempts: Any
    """Handle to an `Attempts` actor."""
    shards: tuple[Shard, ...]
    shards_in_flight: int


class Scorer:
    """Maps the index of a shard to a row of `_RESULT`."""

    def __init__(self, job: ray.ObjectRef) -> None:
        share_one_heap()
        made: Job = ray.get(job)
        self._attempts = made.attempts
        self._shards = {shard.index: shard for shard in made.shards}
        self._seats = Seats(made.shards_in_flight)
        self._task = made.make_task()

    def __call__(self, request: pa.Table) -> pa.Table:
        shard = self._shards[request["shard"][0].as_py()]
        content: bytes | None = None
        error: str | None = None
        num_deaths = ray.get(self._attempts.num_open.remote(shard.index))
        if num_deaths >= MAX_ATTEMPTS:
            error = _deadly(shard, num_deaths)
        else:
            # What has killed a scorer before shall not take another shard down with it.
            with self._seats.taken(alone=num_deaths > 0):
                ray.get(self._attempts.begin.remote(shard.index))
                try:
                    content = self._task(shard)
                except DietError as e:
                    # As a value: raised here, it would arrive inside Ray's own tracebacks.
                    error = str(e)
                ray.get(self._attempts.end.remote(shard.index))
        return pa.table([[shard.index], [content], [error]], schema=_RESULT)


def share_one_heap() -> None:
    """Lets threads that this process starts from now on allocate where its main thread does.

    By default glibc gives each thread a heap of its own, of 64 MiB pieces that come from the system
    and go back to it all the time where tensors are large: a tenth of a scorer's time. Does nothing
    with another C library.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _deadly(shard: Shard, num_deaths: int) -> str:
    last_row = shard.first_row + shard.num_rows - 1
    return (
        f"{shard.file}, rows {shard.first_row} to {last_row}: {num_deaths} processes have died "
        "while they worked on it, most likely out of memory: use larger nodes, fewer scorers on "
        "each (`cpus_per_scorer`) or smaller shards (`shard_rows`)"
    )
