"""Tasks that tell a test where they are, and wait for it. They travel to scorers by value."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import ray
import ray.cloudpickle

from diet_ray.data.log import Shard
from diet_ray.errors import DataError
from diet_ray.influence.scorer import Task
from tests.influence.small_log import SmallLog


@dataclass(frozen=True)
class Naming:
    """Returns a shard's index; raises for `bad`, and kills its process each time for `deadly`."""

    bad: int = -1
    deadly: int = -1

    def __call__(self) -> Task:
        return self.task

    def task(self, shard: Shard) -> bytes:
        if shard.index == self.bad:
            raise DataError(f"{shard.file}: shard {shard.index} is bad")
        if shard.index == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return str(shard.index).encode()


@dataclass(frozen=True)
class Straggling:
    """Shard 0 waits until the test opens `fifo` for writing."""

    fifo: Path

    def __call__(self) -> Task:
        return self.task

    def task(self, shard: Shard) -> bytes:
        if shard.index == 0:
            self.fifo.read_bytes()
        return str(os.getpid()).encode()


@dataclass(frozen=True)
class Meeting:
    """A shard waits for another one in the same process."""

    num_shards: int

    def __call__(self) -> Task:
        barrier = threading.Barrier(self.num_shards)

        def task(shard: Shard) -> bytes:
            barrier.wait()
            return b""

        return task


@dataclass(frozen=True)
class VictimLog(SmallLog):
    """The first who reads `victim` says so through `fifo`, and by default waits for its death."""

    victim: int = 0
    fifo: Path = Path()
    is_read_first: bool = False
    waits: bool = True

    def read_shard(self, shard: Shard) -> pa.Table:
        told = self.fifo.with_suffix(".told")
        if shard.index != self.victim or told.exists():
            return super().read_shard(shard)
        if self.is_read_first:
            table = super().read_shard(shard)
        told.touch()
        self.fifo.write_text(f"{os.getpid()} {ray.get_runtime_context().get_node_id()}")
        if self.waits:
            signal.pause()
        return table if self.is_read_first else super().read_shard(shard)


def kill_victim(log: VictimLog, kill: Callable[[int, str], None]) -> threading.Thread:
    """Calls `kill` with the process and node of a victim once it is there, in a thread."""
    os.mkfifo(log.fifo)

    def wait() -> None:
        pid, node = log.fifo.read_text().split()
        kill(int(pid), node)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


# Workers don't have this folder on their path.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
