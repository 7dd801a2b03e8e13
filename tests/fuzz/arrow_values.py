"""Arrow columns of any type, with the values that a type's reader is likeliest to trip over."""

from __future__ import annotations

import datetime
import decimal
import random
from typing import Any

import numpy as np
import pyarrow as pa

_INTS = (0, 1, -1, 2, 127, 2**31 - 1, 2**53 + 1, 2**62, -(2**62), 1_650_000_000)
_FLOATS = (0.0, -0.0, 1.0, 0.5, 1e-320, 1e300, -1e300, float("nan"), float("inf"), 7.0, 1e15)
_TEXTS = (
    "", " ", "0", "1", "true", "nan", "inf", "-1e400", "\0", "é", "\U0001f600", "1|2|3", "|||",
    "2022-04-08T16:00:00", "9999-12-31", "0000-01-01", "1e5", "x" * 5000, "1_0", "0x10", "１",
)  # fmt: skip


def column(num_rows: int, draw: random.Random, kind: str | None = None) -> pa.Array:
    """`num_rows` values of one type, drawn, or given by its name."""
    kind = kind or draw.choice(list(_KINDS))
    make = _KINDS[kind]
    values = [None if draw.random() < 0.1 else make(draw) for _ in range(num_rows)]
    if draw.random() < 0.05:
        values = [None] * num_rows
    try:
        return pa.array(values, _TYPES[kind](draw))
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        return pa.nulls(num_rows, _TYPES[kind](draw))


def _list_of(inner: str, draw: random.Random) -> list[Any]:
    return [_KINDS[inner](draw) for _ in range(draw.randrange(5))]


_KINDS: dict[str, Any] = {
    "int8": lambda d: d.choice((0, 1, -1, 127)),
    "uint8": lambda d: d.choice((0, 1, 255)),
    "int64": lambda d: d.choice(_INTS),
    "uint64": lambda d: d.choice((0, 1, 2**63, 2**64 - 1)),
    "float16": lambda d: np.float16(d.choice((0.0, 1.0, np.inf, np.nan))),
    "float32": lambda d: d.choice(_FLOATS),
    "float64": lambda d: d.choice(_FLOATS),
    "bool": lambda d: d.random() < 0.5,
    "string": lambda d: d.choice(_TEXTS),
    "large_string": lambda d: d.choice(_TEXTS),
    "string_view": lambda d: d.choice(_TEXTS),
    "binary": lambda d: d.choice((b"", b"\xff", b"1")),
    "fixed_binary": lambda d: b"abcd",
    "dictionary": lambda d: d.choice(_TEXTS),
    "decimal": lambda d: decimal.Decimal(d.choice(("0", "1", "1.5", "99999"))),
    "date32": lambda d: d.choice((datetime.date(2022, 4, 8), datetime.date(1, 1, 1))),
    "time": lambda d: datetime.time(1, 2, 3),
    "duration": lambda d: datetime.timedelta(seconds=5),
    "timestamp_s": lambda d: d.choice((0, 1_650_000_000, 2**40, -(2**45))),
    "timestamp_ns": lambda d: d.choice((0, 2**62, -(2**62))),
    "timestamp_tz": lambda d: d.choice((0, 1_650_000_000, 2**40)),
    "null": lambda d: None,
    "list_int": lambda d: _list_of("int64", d),
    "list_string": lambda d: _list_of("string", d),
    "large_list": lambda d: _list_of("int64", d),
    "fixed_list": lambda d: [1, None, 3],
    "list_list": lambda d: [_list_of("int64", d)],
    "struct": lambda d: {"a": 1, "b": "x"},
    "map": lambda d: [("a", 1)],
}

_TYPES: dict[str, Any] = {
    "int8": lambda d: pa.int8(),
    "uint8": lambda d: pa.uint8(),
    "int64": lambda d: pa.int64(),
    "uint64": lambda d: pa.uint64(),
    "float16": lambda d: pa.float16(),
    "float32": lambda d: pa.float32(),
    "float64": lambda d: pa.float64(),
    "bool": lambda d: pa.bool_(),
    "string": lambda d: pa.string(),
    "large_string": lambda d: pa.large_string(),
    "string_view": lambda d: pa.string_view(),
    "binary": lambda d: pa.binary(),
    "fixed_binary": lambda d: pa.binary(4),
    "dictionary": lambda d: pa.dictionary(pa.int32(), pa.string()),
    "decimal": lambda d: pa.decimal128(10, 2),
    "date32": lambda d: pa.date32(),
    "time": lambda d: pa.time64("us"),
    "duration": lambda d: pa.duration("us"),
    "timestamp_s": lambda d: pa.timestamp("s"),
    "timestamp_ns": lambda d: pa.timestamp("ns"),
    "timestamp_tz": lambda d: pa.timestamp("ms", d.choice(("UTC", "Asia/Shanghai"))),
    "null": lambda d: pa.null(),
    "list_int": lambda d: pa.list_(pa.int64()),
    "list_string": lambda d: pa.list_(pa.string()),
    "large_list": lambda d: pa.large_list(pa.int64()),
    "fixed_list": lambda d: pa.list_(pa.int64(), 3),
    "list_list": lambda d: pa.list_(pa.list_(pa.int64())),
    "struct": lambda d: pa.struct([("a", pa.int64()), ("b", pa.string())]),
    "map": lambda d: pa.map_(pa.string(), pa.int64()),
}


def change_parquet(content: bytes, draw: random.Random) -> bytes:
    """A Parquet file with one column of another type, renamed, dropped, doubled or reordered."""
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(content))
    i = draw.randrange(table.num_columns)
    name = table.column_names[i]
    match draw.randrange(8):
        case 0:
            table = table.drop_columns([name])
        case 1:
            table = table.append_column(name, table[name])
        case 2:
            names = list(table.column_names)
            names[i] = draw.choice(("", "other", "é", "\0", name.upper()))
            table = table.rename_columns(names)
        case 3:
            order = list(range(table.num_rows))
            draw.shuffle(order)
            table = table.take(pa.array(order))
        case 4:
            table = table.slice(0, draw.choice((0, 1, table.num_rows - 1)))
        case _:
            table = table.set_column(i, name, column(table.num_rows, draw))
    sink = pa.BufferOutputStream()
    size = draw.choice((1, 50, 10_000))
    try:
        pq.write_table(table, sink, row_group_size=size, use_dictionary=draw.random() < 0.5)
    except pa.ArrowException:
        # A type that Parquet has no place for.
        return content
    return sink.getvalue().to_pybytes()
