"""Rows that equal an earlier one in every column: the same event, delivered twice.

In time order equal rows share their instant, so that only one instant's rows are remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_ray.data.intake import Dropped
from diet_ray.data.rows import TIMESTAMP
from diet_ray.data.time_order import text_of
from diet_ray.errors import DataError


def without_duplicates(
    tables: Iterable[pa.Table], action: Literal["keep", "drop", "refuse"], dropped: Dropped
) -> Iterator[pa.Table]:
    """Passes rows in time order on, without those that equal an earlier one.

    Raises `DataError` for the first of them if `action` is to refuse.
    """
    if action == "keep":
        yield from tables
        return
    remembered: pa.Table | None = None
    for table in tables:
        if not table.num_rows:
            continue
        flat = _flat(table)
        both = flat if remembered is None else pa.concat_tables([remembered, flat])
        repeated = both.to_pandas().duplicated().to_numpy()[both.num_rows - flat.num_rows :]
        times = both[TIMESTAMP].to_numpy()
        remembered = both.filter(pa.array(times == times[-1]))
        if repeated.any() and action == "refuse":
            when = text_of(int(table[TIMESTAMP][int(repeated.argmax())].as_py()))
            raise DataError(
                f"the row at {when} equals an earlier one in every column: it was delivered twice; "
                "mend the log, or set `intake: duplicates` to drop or keep"
            )
        dropped.num_duplicates += int(repeated.sum())
        yield table.filter(pa.array(~repeated)) if repeated.any() else table


def _flat(table: pa.Table) -> pa.Table:
    """Columns that can be compared: ids and lists of them as text."""
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_floating(column.type) or name == TIMESTAMP:
            columns[name] = column
        elif pa.types.is_list(column.type):
            columns[name] = pa.chunked_array([_joined(chunk) for chunk in column.chunks])
        else:
            columns[name] = column.cast(pa.string())
    return pa.table(columns)


def _joined(lists: pa.ListArray) -> pa.Array:
    """Each list as one text, its items' lengths included, so that no two lists are alike."""
    items = pc.fill_null(lists.flatten().cast(pa.string()), "\0")
    lengths = pc.binary_length(items).cast(pa.string())
    marked = pc.binary_join_element_wise(lengths, items, ":")
    offsets = np.zeros(len(lists) + 1, dtype=np.int32)
    np.cumsum(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(), out=offsets[1:])
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), marked), ",")
