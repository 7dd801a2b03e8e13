"""The order in which a log's shards are given out, and the gate that a stage waits at."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext, Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from diet_ray.cluster import this_node
from diet_ray.data.log import Shard


class Gate:
    """Which stages are open, and the weights to score them with. Runs as an asyncio actor."""

    def __init__(self) -> None:
        self._weights: dict[int, list[ray.ObjectRef]] = {}
        self._published: set[int] = set()
        self._closed = False
        self._changed = asyncio.Condition()

    @classmethod
    def start(cls) -> Any:
        """A handle to a new gate, which lives as long as the caller's node."""
        return ray.remote(num_cpus=0, label_selector=this_node())(cls).remote()

    async def publish(self, stage: int, weights: list[ray.ObjectRef]) -> None:
        """Opens a stage; `weights` is a list of one reference, so that Ray passes it unread."""
        async with self._changed:
            self._weights[stage] = weights
            self._published.add(stage)
            self._changed.notify_all()

    async def wait(self, stage: int) -> bool:
        """Returns once the stage is open, True, or the gate is closed for good, False."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or stage in self._published)
            return not self._closed

    async def weights(self, stage: int) -> list[ray.ObjectRef]:
        """As published; nothing if the stage is retired or the gate closed."""
        return [] if self._closed else self._weights.get(stage, [])

    async def retire(self, stage: int) -> None:
        """Lets go of a stage's weights: all its shards are in."""
        self._weights.pop(stage, None)

    async def close(self) -> None:
        async with self._changed:
            self._closed = True
            self._changed.notify_all()


class ShardSource(Datasource):
    """One read task: a block for every shard, in order, each stage as the gate opens it."""

    def __init__(self, shards: Sequence[Shard], gate: Any | None) -> None:
        super().__init__()
        self._stages = [
            (stage, tuple(shard.index for shard in group))
            for stage, group in groupby(shards, key=lambda shard: shard.stage)
        ]
        self._gate = gate

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,
    ) -> list[ReadTask]:
        stages, gate = self._stages, self._gate

        def read() -> Iterator[pa.Table]:
            for stage, indices in stages:
                if gate is not None and not ray.get(gate.wait.remote(stage)):
                    return
                for index in indices:
                    yield pa.table({"shard": [index]})

        unknown = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None)
        return [ReadTask(read, unknown)]
