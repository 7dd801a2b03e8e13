"""A prepared log of a few hundred rows, made without a source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diet_ray.data.encoding import Scale
from diet_ray.data.log import PreparedLog, Shard, Stage
from diet_ray.data.schema import Field, Label, Schema, Timestamp
from diet_ray.data.stages import StageConfig

NUM_STRATA = 24
SCHEMA = Schema(
    timestamp=Timestamp(column="time"),
    label=Label(column="click"),
    fields=(
        Field(name="user", kind="categorical"),
        Field(name="item", kind="categorical"),
        Field(name="price", kind="numeric"),
        Field(name="seen", kind="sequence", history_of="item", user="user", max_length=3),
    ),
)


def encoded_rows(first_row: int, num_rows: int, num_items: int) -> pa.Table:
    """Clicks follow the price and the item; two strata."""
    rng = np.random.default_rng(first_row)
    row = np.arange(first_row, first_row + num_rows)
    item = rng.integers(2, num_items, num_rows)
    price = rng.normal(size=num_rows)
    label = rng.random(num_rows) < 1 / (1 + np.exp(-1.5 * price - (item % 3) + 1))
    seen = rng.integers(0, num_items, num_rows * 3).astype(np.int32)
    return pa.table(
        {
            "_row": row,
            "_timestamp": row * 1_000_000,
            "_label": label.astype(np.float32),
            "_stratum": label.astype(np.int32),
            "user": rng.integers(2, 20, num_rows).astype(np.int32),
            "item": item.astype(np.int32),
            "price": price.astype(np.float32),
            "seen": pa.FixedSizeListArray.from_arrays(pa.array(seen), 3),
        }
    )


def small_log(
    path: Path, num_stages: int = 3, shard_rows: int = 80, num_test_stages: int = 0
) -> PreparedLog:
    """Stages of two shards each, test ones last; every training stage admits five more items."""
    stages = []
    for index in range(num_stages + num_test_stages):
        num_items = 10 + 5 * min(index, num_stages - 1)
        first_row = index * 2 * shard_rows
        rows = encoded_rows(first_row, 2 * shard_rows, num_items)
        file = f"stages/{index:05d}.parquet"
        (path / "stages").mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, path / file, row_group_size=shard_rows)
        shards = tuple(
            Shard(
                index=2 * index + i,
                stage=index,
                file=file,
                first_row_group=i,
                num_row_groups=1,
                num_rows=shard_rows,
                first_row=first_row + i * shard_rows,
            )
            for i in range(2)
        )
        strata = np.bincount(rows["_stratum"].to_numpy(), minlength=NUM_STRATA)
        stages.append(
            Stage(
                index=index,
                role="train" if index < num_stages else "test",
                num_rows=2 * shard_rows,
                first_row=first_row,
                start_us=first_row * 1_000_000,
                end_us=(first_row + 2 * shard_rows - 1) * 1_000_000,
                shards=shards,
                strata=tuple(strata.tolist()),
                num_ids={"user": 20, "item": num_items},
            )
        )
    return PreparedLog(
        path=str(path),
        schema=SCHEMA,
        stage_config=StageConfig(test_fraction=0.0),
        stages=tuple(stages),
        fingerprint="small",
        num_strata=NUM_STRATA,
        scales={"price": Scale(mean=0.0, sd=1.0)},
        generation=0,
    )
