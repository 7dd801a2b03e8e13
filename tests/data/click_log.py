"""Small made-up click logs, and the plain-Python reference of what encoding makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diet_ray.config import from_mapping
from diet_ray.data.schema import Schema

DAY_S = 86_400
START_S = 1_650_000_000 // DAY_S * DAY_S

SCHEMA = from_mapping(
    Schema,
    {
        "timestamp": {"column": "time"},
        "label": {"column": "click"},
        "fields": [
            {"name": "user", "kind": "categorical"},
            {"name": "item", "kind": "categorical", "min_count": 2},
            {"name": "price", "kind": "numeric"},
            {"name": "tags", "kind": "sequence", "max_length": 3},
            {"name": "seen", "kind": "sequence", "history_of": "item", "user": "user",
             "max_length": 4},
        ],
    },
    "schema",
)  # fmt: skip


def click_rows(num_rows: int = 600, *, days: int = 6, seed: int = 0) -> pa.Table:
    """Rows in time order, with ties, missing values, and items that appear only late."""
    rng = np.random.default_rng(seed)
    time = np.sort(rng.integers(0, days * 200, num_rows)) * (DAY_S // 200) + START_S
    late = np.arange(num_rows) * 20 // num_rows
    item = rng.integers(0, 10, num_rows) + late
    tags = [list(map(str, rng.integers(0, 9, rng.integers(0, 6)))) for _ in range(num_rows)]
    return pa.table(
        {
            "time": time,
            "click": rng.integers(0, 2, num_rows).astype(np.int8),
            "user": pa.array([None if u == 7 else f"u{u}" for u in rng.integers(0, 8, num_rows)]),
            "item": item,
            "price": pa.array([None if p > 90 else p for p in rng.normal(50, 30, num_rows)]),
            "tags": tags,
            "unused": np.zeros(num_rows),
        }
    )


def write_log(folder: Path, rows: pa.Table, cuts: tuple[int, ...] = ()) -> tuple[str, ...]:
    """Parquet files cut at the given rows, each of several row groups."""
    folder.mkdir(parents=True, exist_ok=True)
    ends = (*cuts, rows.num_rows)
    paths = []
    for i, (start, end) in enumerate(zip((0, *cuts), ends, strict=True)):
        paths.append(str(folder / f"part-{i}.parquet"))
        pq.write_table(rows.slice(start, end - start), paths[-1], row_group_size=70)
    return tuple(paths)


def reference_histories(rows: pa.Table, user: str, item: str, length: int) -> list[list[Any]]:
    """Each row's history as values, by the definition: quadratic and obvious."""
    events = rows.select(["time", "click", user, item]).to_pylist()
    return [
        [
            past[item]
            for past in events[:i]
            if past["click"] == 1
            and past[user] == row[user] is not None
            and past["time"] < row["time"]
        ][-length:]
        for i, row in enumerate(events)
    ]


def replaced(
    rows: pa.Table, column: str, row: int, value: Any, kind: pa.DataType | None = None
) -> pa.Table:
    """The rows with one value changed."""
    values = rows[column].to_pylist()
    values[row] = value
    return rows.set_column(rows.column_names.index(column), column, pa.array(values, kind))
