"""Fewer bytes for what is published: floats only as precise as is of use, columns tightly encoded.

The memory itself stays exact; only the published copy of its slots is rounded.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diet_ray.memory.slots import to_columns, with_columns

MANTISSA_BITS = {"_soft_label": 10, "_residual": 10, "_influence": 7, "_key": 7}
"""Bits of a float's fraction that are kept: a value moves by at most 2^-(bits + 1) of itself.

That moves a training target by less than 0.0004 at any residual share up to 1. Nothing is trained
on influence and key, which only say how a slot was chosen. Field values, labels and weights stay
as they are.
"""

_DICTIONARY = "dictionary"
_INTEGERS = ("PLAIN", "DELTA_BINARY_PACKED", _DICTIONARY)
# Not for integers, which readers of Parquet before 2.11 can't take in this encoding.
_FLOATS = ("PLAIN", "BYTE_STREAM_SPLIT", _DICTIONARY)
_TEXTS = ("PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", _DICTIONARY)

_LEVEL = 19
_TRIED_ROWS = 1 << 16
"""Rows at a table's start that encodings are tried on."""


def rounded(slots: pa.Table) -> pa.Table:
    """Slots with the columns of `MANTISSA_BITS` rounded, in the types that they have."""
    columns = to_columns(slots.select(list(MANTISSA_BITS)))
    return with_columns(
        slots, {name: round_floats(columns[name], bits) for name, bits in MANTISSA_BITS.items()}
    )


def round_floats(values: np.ndarray, bits: int) -> np.ndarray:
    """The nearest floats whose fractions have `bits` bits, ties to even; same shape and type."""
    fraction, exponent = np.frexp(values)
    # `frexp` gives fractions from 1/2, whose leading bit floats don't store: one bit more.
    return np.ldexp(np.rint(np.ldexp(fraction, bits + 1)), exponent - (bits + 1))


def smallest_parquet(table: pa.Table) -> bytes:
    """A table as a Parquet file, each column in the encoding that makes it smallest.

    Columns are integers, floats, texts, or lists of one length of integers. Equal tables give equal
    bytes.
    """
    head = table.slice(0, _TRIED_ROWS)
    encodings = {name: _best_encoding(head.select([name])) for name in table.column_names}
    return _parquet(table, encodings)


def _best_encoding(column: pa.Table) -> str:
    """The first of the smallest for a table of one column."""
    (field,) = column.schema
    kind = field.type.value_type if pa.types.is_nested(field.type) else field.type
    choices: tuple[str, ...] = _TEXTS
    if pa.types.is_integer(kind):
        choices = _INTEGERS
    elif pa.types.is_floating(kind):
        choices = _FLOATS
    return min(choices, key=lambda encoding: len(_parquet(column, {field.name: encoding})))


def _parquet(table: pa.Table, encodings: dict[str, str]) -> bytes:
    nested = [f.name for f in table.schema if pa.types.is_nested(f.type)]
    leaves = {n: f"{n}.list.element" if n in nested else n for n in encodings}
    options: dict[str, Any] = {
        "use_dictionary": [leaves[n] for n, e in encodings.items() if e == _DICTIONARY],
        "column_encoding": {leaves[n]: e for n, e in encodings.items() if e != _DICTIONARY},
        "write_statistics": False,
        # Only the length of lists is lost without Arrow's own schema beside Parquet's.
        "store_schema": bool(nested),
    }
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", compression_level=_LEVEL, **options)
    return sink.getvalue()
