"""A prepared log in memory whose labels a model can learn, in shards of uneven sizes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray.cloudpickle

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.data.encoding import to_batch
from diet_ray.data.log import Shard, Stage

NUM_USERS, NUM_ITEMS = 30, 40
FEATURES = FeatureSpec(
    categorical=("user", "item"), num_ids=(NUM_USERS, NUM_ITEMS), numeric=("age",), sequence=()
)


@dataclass(frozen=True)
class MemoryLog:
    """What search uses of a `PreparedLog`."""

    stages: tuple[Stage, ...]
    table: pa.Table
    path: str = "memory-log"
    fingerprint: str = "memory"
    features: FeatureSpec = FEATURES
    num_train_bytes: int = 4_000

    @property
    def train_stages(self) -> tuple[Stage, ...]:
        return tuple(s for s in self.stages if s.role == "train")

    @property
    def test_stages(self) -> tuple[Stage, ...]:
        return tuple(s for s in self.stages if s.role == "test")

    @property
    def num_train_rows(self) -> int:
        return sum(s.num_rows for s in self.train_stages)

    @property
    def num_test_rows(self) -> int:
        return sum(s.num_rows for s in self.test_stages)

    def read_shard(self, shard: Shard, columns: list[str] | None = None) -> pa.Table:
        return self.table.slice(shard.first_row, shard.num_rows)

    def batches(self, stages: tuple[Stage, ...], device: str = "cpu") -> Iterator[Batch]:
        for stage in stages:
            for shard in stage.shards:
                yield to_batch(self.read_shard(shard), self.features).to(device)


def memory_log(
    train: tuple[tuple[int, ...], ...] = ((700, 500), (900,)),
    test: tuple[tuple[int, ...], ...] = ((400,),),
    seed: int = 0,
) -> MemoryLog:
    """Stages of shards of the given sizes; the label follows user, item and their affinity."""
    stages, first_row, index = [], 0, 0
    for stage, (role, sizes) in enumerate(
        [("train", s) for s in train] + [("test", s) for s in test]
    ):
        shards, stage_first = [], first_row
        for num_rows in sizes:
            shards.append(
                Shard(
                    index=index,
                    stage=stage,
                    file=f"stage-{stage}.parquet",
                    first_row_group=len(shards),
                    num_row_groups=1,
                    num_rows=num_rows,
                    first_row=first_row,
                )
            )
            first_row, index = first_row + num_rows, index + 1
        stages.append(
            Stage(
                index=stage,
                role=role,
                num_rows=sum(sizes),
                first_row=stage_first,
                start_us=stage_first,
                end_us=first_row - 1,
                shards=tuple(shards),
                strata=(sum(sizes),),
                num_ids={"user": NUM_USERS, "item": NUM_ITEMS},
            )
        )
    return MemoryLog(stages=tuple(stages), table=_rows(first_row, seed))


def _rows(num_rows: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    user, item = rng.integers(2, NUM_USERS, num_rows), rng.integers(2, NUM_ITEMS, num_rows)
    age = rng.normal(size=num_rows).astype(np.float32)
    taste, traits = rng.normal(size=(NUM_USERS, 3)), rng.normal(size=(NUM_ITEMS, 3))
    logit = rng.normal(size=NUM_USERS)[user] + 1.5 * rng.normal(size=NUM_ITEMS)[item]
    logit = logit + (taste[user] * traits[item]).sum(axis=1) + 0.5 * age
    label = rng.random(num_rows) < 1 / (1 + np.exp(-logit))
    row = np.arange(num_rows)
    return pa.table(
        {
            "_row": row,
            "_timestamp": row,
            "_label": label.astype(np.float32),
            "_stratum": label.astype(np.int32),
            "user": user.astype(np.int32),
            "item": item.astype(np.int32),
            "age": age,
        }
    )


# Workers don't have this folder on their path.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
