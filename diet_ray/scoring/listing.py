"""Rows of the summary's lists as a person reads them: with the log's own values."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_ray.data.log import PreparedLog
from diet_ray.data.rows import LABEL, TIMESTAMP
from diet_ray.scoring.summary import List, Summary
from diet_ray.storage import Folder


def listed_rows(log: PreparedLog, summary: Summary) -> dict[List, list[dict[str, Any]]]:
    """By list, the rows in its order: number, score, time, label and the `fields` by name.

    Unknown and hashed ids stay numbers, numeric fields are standardised, as models see them.
    """
    wanted = sorted({row for extremes in summary.lists.values() for row in extremes.rows})
    found = _rows(log, np.array(wanted, dtype=np.int64))
    return {
        name: [
            {"row": row, "score": value} | found[row]
            for row, value in zip(extremes.rows, extremes.values, strict=True)
        ]
        for name, extremes in summary.lists.items()
    }


def _rows(log: PreparedLog, wanted: np.ndarray) -> dict[int, dict[str, Any]]:
    """Fields by row number; reads the shards that hold a wanted row, and no others."""
    parts: list[pa.Table] = []
    for shard in (s for stage in log.stages for s in stage.shards):
        low, high = np.searchsorted(wanted, [shard.first_row, shard.first_row + shard.num_rows])
        if high > low:
            rows = log.read_shard(shard)
            parts.append(rows.take(pa.array(wanted[low:high] - shard.first_row)))
    if not parts:
        return {}
    table = pa.concat_tables(parts)
    zone = ZoneInfo(log.schema.timestamp.timezone)
    times = [datetime.fromtimestamp(t / 1e6, zone) for t in table[TIMESTAMP].to_pylist()]
    columns: dict[str, list[Any]] = {
        "time": [time.isoformat(" ", "seconds") for time in times],
        "label": table[LABEL].to_pylist(),
    }
    fields: dict[str, list[Any]] = {}
    for field in log.schema.fields:
        fields[field.name] = _values(log, field.history_of or field.name, table[field.name])
    return {
        row: {name: values[i] for name, values in columns.items()}
        | {"fields": {name: values[i] for name, values in fields.items()}}
        for i, row in enumerate(table["_row"].to_pylist())
    }


def _values(log: PreparedLog, vocabulary: str, ids: pa.ChunkedArray) -> list[Any]:
    """Ids, or lists of them, as the values that the vocabulary says."""
    plain = ids.to_pylist()
    folder = Folder.at(log.path) / "vocabulary"
    if not folder.exists(f"{vocabulary}.parquet"):
        return plain
    table = folder.read_table(f"{vocabulary}.parquet", ["value", "id"])
    used = pa.array({i for row in plain for i in (row if isinstance(row, list) else [row])})
    kept = table.filter(pc.is_in(table["id"], used.cast(table["id"].type)))
    value_of = dict(zip(kept["id"].to_pylist(), kept["value"].to_pylist(), strict=True))
    # Not admitted values share the unknown id.
    value_of |= {0: None, 1: None}

    def decoded(x: Any) -> Any:
        return [value_of.get(i, i) for i in x if i] if isinstance(x, list) else value_of.get(x, x)

    return [decoded(x) for x in plain]
