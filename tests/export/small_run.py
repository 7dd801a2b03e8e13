"""A run as `diet export` reads it, made without distilling: a log, and slots of its first rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diet_ray.data.log import PreparedLog
from diet_ray.memory.manifest import Description
from diet_ray.memory.publish import publish
from diet_ray.memory.slots import from_columns, slot_schema, to_columns
from diet_ray.training.recipe import Recipe
from tests.distillation.small_log import SCHEMA, small_log

NUM_SLOTS = 24
RECIPE = Recipe(batch_share=0.5, steps_per_step=4.0, residual_share=0.5)


def small_run(path: Path) -> PreparedLog:
    """Three training stages and a test stage of 160 rows, and 24 slots of uneven weight."""
    log = small_log(path / "log", num_test_stages=1)
    (path / "log" / "log.json").write_bytes(log.to_json())
    (path / "log" / "vocabulary").mkdir()
    sizes = zip(log.features.categorical, log.features.num_ids, strict=True)
    for name, num_ids in sizes:
        ids = list(range(2, num_ids))
        table = pa.table({"value": [f"{name} {i}" for i in ids], "id": pa.array(ids, pa.int32())})
        table = table.append_column("count", pa.array(ids))
        pq.write_table(table, path / "log" / "vocabulary" / f"{name}.parquet")
    rows = log.read_shard(log.train_stages[0].shards[0]).slice(0, NUM_SLOTS)
    draw = np.random.default_rng(0)
    columns = to_columns(rows) | {
        "_slot": np.arange(NUM_SLOTS),
        "_birth_stage": np.zeros(NUM_SLOTS),
        "_age": np.zeros(NUM_SLOTS),
        "_soft_label": draw.normal(size=NUM_SLOTS),
        "_residual": draw.uniform(-1, 1, NUM_SLOTS),
        "_weight": draw.integers(1, 40, NUM_SLOTS),
        "_influence": np.ones(NUM_SLOTS),
        "_key": np.ones(NUM_SLOTS),
    }
    description = Description(
        schema=SCHEMA,
        features=log.features,
        recipe=RECIPE,
        proxies=({"architecture": "dnn"},),
        budget={},
        source_fingerprint=log.fingerprint,
        num_rows_seen=log.num_train_rows,
        source_bytes=10_000,
    )
    slots = from_columns(columns, slot_schema(SCHEMA))
    publish(path / "distilled", slots, description, vocabulary=path / "log" / "vocabulary")
    return log
