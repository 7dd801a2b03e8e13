"""A prepared log of a few shards, kept in memory, that travels to scorers by value."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray.cloudpickle

from diet_ray.data.batch import FeatureSpec
from diet_ray.data.log import Shard, Stage
from diet_ray.errors import DataError
from tests.influence.influence_model import FEATURES

NUM_STRATA = 4


def random_rows(num_rows: int, first_row: int, seed: int) -> pa.Table:
    """Encoded rows of `FEATURES` in `NUM_STRATA` strata."""
    rng = np.random.default_rng([seed, first_row])
    row = np.arange(first_row, first_row + num_rows)
    label = rng.integers(0, 2, num_rows)

    def sequence(num_ids: int, length: int) -> pa.Array:
        ids = rng.integers(1, num_ids, (num_rows, length)).astype(np.int32)
        ids[np.arange(length) >= rng.integers(0, length + 1, (num_rows, 1))] = 0
        return pa.FixedSizeListArray.from_arrays(pa.array(ids.ravel()), length)

    return pa.table(
        {
            "_row": row,
            "_timestamp": row * 1_000_000,
            "_label": label.astype(np.float32),
            "_stratum": (label + 2 * rng.integers(0, NUM_STRATA // 2, num_rows)).astype(np.int32),
            "user": rng.integers(1, 7, num_rows).astype(np.int32),
            "item": rng.integers(1, 9, num_rows).astype(np.int32),
            "age": rng.normal(size=num_rows).astype(np.float32),
            "watched": sequence(9, 4),
            "tags": sequence(6, 3),
        }
    )


@dataclass(frozen=True)
class SmallLog:
    """What scorers use of a `PreparedLog`."""

    stages: tuple[Stage, ...]
    tables: dict[int, pa.Table]
    unreadable: int = -1
    """Index of a shard whose file is broken."""

    def features_at(self, stage_index: int) -> FeatureSpec:
        return FEATURES

    def read_shard(self, shard: Shard) -> pa.Table:
        if shard.index == self.unreadable:
            raise DataError(f"{shard.file}: broken; prepare the log again")
        return self.tables[shard.index]


def small_log(
    shard_rows: tuple[tuple[int, ...], ...], seed: int = 0, unreadable: int = -1
) -> SmallLog:
    """A log whose stage i has shards of `shard_rows[i]` rows."""
    stages, tables = [], {}
    first_row = 0
    for index, sizes in enumerate(shard_rows):
        shards = []
        for rows in sizes:
            shard = Shard(
                index=len(tables),
                stage=index,
                file=f"stage-{index}.parquet",
                first_row_group=len(shards),
                num_row_groups=1,
                num_rows=rows,
                first_row=first_row,
            )
            tables[shard.index] = random_rows(rows, first_row, seed)
            shards.append(shard)
            first_row += rows
        strata = sum(
            np.bincount(tables[s.index]["_stratum"].to_numpy(), minlength=NUM_STRATA)
            for s in shards
        )
        stage = Stage(
            index=index,
            role="train",
            num_rows=sum(sizes),
            first_row=shards[0].first_row,
            start_us=0,
            end_us=1,
            shards=tuple(shards),
            strata=tuple(int(n) for n in strata),
            num_ids={"user": 7, "item": 9, "tags": 6},
        )
        stages.append(stage)
    return SmallLog(tuple(stages), tables, unreadable)


# Workers don't have this folder on their path.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
