"""A raw log in memory, for the passes to work on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from diet_ray.data.raw.log import LABEL, TIME, Cleaned, RawLog, categorical
from diet_ray.data.schema import Label, Schema, Timestamp


@dataclass(frozen=True)
class TablePart:
    tables: tuple[pa.Table, ...]

    def read(self) -> Iterator[pa.Table]:
        yield from self.tables


def nothing_to_clean(raw: pa.Table) -> Cleaned:
    return Cleaned(raw, {})


def finished(rows: pa.Table) -> pa.Table:
    return rows


def raw_log(*parts: pa.Table, **more: Any) -> RawLog:
    names = [n for n in parts[0].column_names if n not in (TIME, LABEL)]
    return RawLog(
        schema=Schema(
            timestamp=Timestamp(column=TIME, unit="us"),
            label=Label(column=LABEL),
            fields=categorical(*names),
        ),
        parts=tuple(TablePart((p,)) for p in parts),
        clean=nothing_to_clean,
        finish=finished,
        **more,
    )


def events(num_rows: int, *, days: int = 3, seed: int = 0, items: int = 20) -> pa.Table:
    """With many rows of one instant; `place` is the number of the row."""
    draw = np.random.default_rng(seed)
    return pa.table(
        {
            TIME: draw.integers(0, days * 50, num_rows) * (86_400_000_000 // 50),
            LABEL: draw.integers(0, 2, num_rows).astype(np.int8),
            "item": draw.integers(0, items, num_rows),
            "name": pa.array([f"n{i % 7}" for i in range(num_rows)]).dictionary_encode(),
            "place": np.arange(num_rows),
        }
    )
