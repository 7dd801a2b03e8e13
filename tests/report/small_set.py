"""Five slots of two stages, made by hand; one value in each that could break a page."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from diet_ray.data.batch import FeatureSpec, SequenceSpec
from diet_ray.data.schema import Field, Label, Schema, Timestamp
from diet_ray.memory.dataset import DistilledDataset
from diet_ray.memory.manifest import ByteAccount, Manifest
from diet_ray.memory.slots import from_columns, slot_schema
from diet_ray.training.recipe import Recipe

SCHEMA = Schema(
    timestamp=Timestamp(column="time", timezone="Asia/Shanghai"),
    label=Label(column="click"),
    fields=(
        Field(name="user", kind="categorical"),
        Field(name="item", kind="categorical"),
        Field(name="device", kind="categorical", hash_buckets=8),
        Field(name="price", kind="numeric"),
        Field(name="watched", kind="sequence", history_of="item", user="user", max_length=9),
    ),
)
MARKUP = "<b>&</b>"


def small_set(num_rows_seen: int = 100) -> DistilledDataset:
    watched = np.zeros((5, 9), dtype=int)
    watched[2, 1:] = [2, 3, 2, 3, 2, 3, 2, 3]
    columns = {
        "_row": np.arange(5),
        "_timestamp": 1_650_000_000_000_000 + 60_000_000 * np.arange(5),
        "_label": [1, 0, 1, 0, 0],
        "_stratum": np.zeros(5),
        "user": [2, 3, 2, 1, 2],
        "item": [2, 2, 3, 3, 3],
        "device": [4, 4, 9, 1, 4],
        "price": [0, 0, -0.5, 0, 0],
        "watched": watched,
        "_slot": np.arange(5),
        "_birth_stage": [0, 0, 0, 2, 2],
        "_age": np.zeros(5),
        "_soft_label": [0, 0, np.log(3), 0, -np.log(3)],
        "_residual": np.zeros(5),
        "_weight": [10, 20, 10, 15, 5],
        "_influence": [0.5, 0.1, 3, 0.4, 2],
        "_key": np.ones(5),
    }
    layout = slot_schema(SCHEMA)
    slots = from_columns({k: np.asarray(v) for k, v in columns.items()}, layout)
    manifest = Manifest(
        schema=SCHEMA,
        features=FeatureSpec(
            categorical=("user", "item", "device"),
            num_ids=(6, 4, 10),
            numeric=("price",),
            sequence=(SequenceSpec(name="watched", max_length=9, target="item", num_ids=4),),
        ),
        recipe=Recipe(),
        proxies=(),
        budget={"fraction": 0.05},
        source_fingerprint="abc",
        num_rows_seen=num_rows_seen,
        source_bytes=10_000,
        stages=tuple({"stage": i, "rows": 30 + i, "proposed": 4, "slots": 5} for i in range(3)),
        num_slots=5,
        total_weight=60.0,
        files={},
        num_bytes=ByteAccount(slots=1200, vocabularies=34, codebooks=0, embeddings=0),
    )
    return DistilledDataset(
        path="set",
        manifest=manifest,
        slots=slots,
        vocabularies={
            "user": _vocabulary({"ann": 40, "": 20}),
            "item": _vocabulary({MARKUP: 70, "x" * 99: 30}),
        },
    )


def _vocabulary(counts: dict[str, int]) -> pa.Table:
    ids = pa.array(range(2, 2 + len(counts)), pa.int32())
    return pa.table({"value": list(counts), "id": ids, "count": list(counts.values())})
