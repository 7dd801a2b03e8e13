"""Raw rows in one form, whatever file they come from, checked value by value.

Columns of a normalised table: `_timestamp` int64 (µs since epoch), `_label` float32 (0 or 1), then
every field of the schema that is read from the log, by its name: categorical as int64 or string
(null = missing), numeric as float64 (NaN = missing), sequence as list of int64 or string.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_ray.data.schema import Field, Schema, Timestamp
from diet_ray.errors import DataError

TIMESTAMP = "_timestamp"
LABEL = "_label"

_US_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1}
# Years 1 to 9000: whatever lies outside was read with the wrong unit.
_TIMESTAMP_RANGE_US = (-62_135_000_000_000_000, 221_845_000_000_000_000)
_MISSING_NUMBERS = pa.array(["", "NA", "N/A", "NULL", "null", "None", "\\N"])


@dataclass(frozen=True)
class Origin:
    """Where a table's rows come from, for messages."""

    file: str
    first_row: int
    """Rows of the file before the table's first."""

    def error(self, column: str, problem: str, index: int | None = None) -> DataError:
        """For a row of the table; rows are counted from 1, a header line not included."""
        row = "" if index is None else f"row {self.first_row + index + 1}, "
        return DataError(f"{self.file}: {row}column `{column}`: {problem}")


def check_columns(names: Sequence[str], needed: Sequence[str], file: str) -> None:
    """Raises `DataError` if one of the `needed` columns is missing from `names` or there twice."""
    for column in needed:
        if names.count(column) > 1:
            raise DataError(
                f"{file}: column `{column}` is there {names.count(column)} times; rename or drop "
                "all but one"
            )
        if column not in names:
            raise DataError(
                f"{file}: no column `{column}`, which the schema names; it has "
                f"{', '.join(names[:20])}"
            )


def normalise(
    table: pa.Table, schema: Schema, *, file: str, first_row: int, text: bool = False
) -> pa.Table:
    """The normalised form of raw rows. Raises `DataError` naming file, row and column.

    With `text` every column is text, as in a CSV file, and numbers are parsed from it; otherwise
    text in a numeric column is a wrong type.
    """
    origin = Origin(file, first_row)
    columns = {
        TIMESTAMP: _timestamps(_one_chunk(table, schema.timestamp.column), schema, origin, text),
        LABEL: _labels(_one_chunk(table, schema.label.column), schema.label.column, origin, text),
    }
    for field in schema.fields:
        if field.history_of is None:
            columns[field.name] = _field(
                _one_chunk(table, field.source_column), field, origin, text
            )
    return pa.table(columns)


def _one_chunk(table: pa.Table, column: str) -> pa.Array:
    chunked = table[column]
    if pa.types.is_dictionary(chunked.type):
        chunked = chunked.cast(chunked.type.value_type)
    return (
        chunked.chunk(0)
        if chunked.num_chunks == 1
        else pa.concat_arrays(chunked.chunks or [pa.nulls(0, chunked.type)])
    )


def _field(values: pa.Array, field: Field, origin: Origin, text: bool) -> pa.Array:
    column = field.source_column
    if field.kind == "numeric":
        numbers = _numbers(values, column, origin, text)
        return pa.array(np.where(np.isfinite(numbers), numbers, np.nan))
    if field.kind == "categorical":
        return _categories(values, column, origin)
    return _sequences(values, field, origin)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _categories(values: pa.Array, column: str, origin: Origin) -> pa.Array:
    kind = values.type
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return values.cast(pa.int64())
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise origin.error(
            column, f"a categorical field can't be read from type {kind}; use text or int"
        )
    if pa.types.is_floating(kind) and values.null_count < len(values):
        if pa.types.is_float16(kind):
            # Arrow has no arithmetic for them.
            values, kind = values.cast(pa.float32()), pa.float32()
        # NaN is how a missing value looks once a reader has turned whole numbers into floats.
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, kind), values)
        # As whole numbers are written: an id is the same one in either type.
        is_whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**63))
        whole = pc.if_else(is_whole, values, pa.scalar(0.0, kind)).cast(pa.float64())
        texts = pc.if_else(
            is_whole, whole.cast(pa.int64()).cast(pa.string()), values.cast(pa.string())
        )
        return pc.if_else(pc.is_null(values), pa.scalar(None, pa.string()), texts)
    texts = values.cast(pa.string())
    if pa.types.is_decimal(kind):
        # As a float, or a whole number, of the same value is written.
        texts = pc.replace_substring_regex(texts, r"(\.\d*?)0+$", r"\1")
        texts = pc.replace_substring_regex(texts, r"\.$", "")
    empty = pc.equal(texts, "")
    if pc.any(empty).as_py():
        texts = pc.if_else(empty, pa.scalar(None, pa.string()), texts)
    return texts


def _sequences(values: pa.Array, field: Field, origin: Origin) -> pa.Array:
    kind = values.type
    if _is_text(kind):
        empty = pc.equal(pc.utf8_trim_whitespace(values), "")
        values = pc.if_else(empty, pa.scalar(None, kind), values).cast(pa.string())
        values = pc.split_pattern(values, field.separator)
    elif pa.types.is_null(kind):
        values = values.cast(pa.list_(pa.string()))
    elif not (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ):
        raise origin.error(
            field.source_column, f"a sequence must be a list or text, not {kind}; see `separator`"
        )
    elif pa.types.is_fixed_size_list(kind):
        # So that flatten() leaves out the places that null lists take.
        values = values.cast(pa.list_(kind.value_type))
    lengths = pc.fill_null(pc.list_value_length(values), 0)
    items = values.flatten()
    if _is_text(items.type):
        items = pc.utf8_trim_whitespace(items)
    offsets = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum(lengths.to_numpy(), out=offsets[1:])
    items = _categories(items, field.source_column, origin)
    return pa.ListArray.from_arrays(pa.array(offsets), items)


def _numbers(values: pa.Array, column: str, origin: Origin, text: bool) -> np.ndarray:
    """Float64 with NaN for null. Raises `DataError` where text is no number."""
    kind = values.type
    if _is_text(kind):
        if not text:
            raise origin.error(
                column, f"a number is expected but the column's type is {kind}; cast it"
            )
        values = pc.utf8_trim_whitespace(values)
        values = pc.if_else(pc.is_in(values, value_set=_MISSING_NUMBERS.cast(kind)), None, values)
        try:
            values = values.cast(pa.float64())
        except pa.ArrowInvalid:
            index = _first_unparsable(values, pa.float64())
            raise origin.error(column, f"{values[index].as_py()!r} is no number", index) from None
    elif not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind) or pa.types.is_null(kind)
    ):  # fmt: skip
        raise origin.error(column, f"a number is expected but the column's type is {kind}")
    elif pa.types.is_integer(kind):
        values = values.cast(pa.float64(), safe=False)
    elif pa.types.is_boolean(kind):
        values = values.cast(pa.int8()).cast(pa.float64())
    else:
        values = values.cast(pa.float64())
    return pc.fill_null(values, np.nan).to_numpy(zero_copy_only=False)


def _labels(values: pa.Array, column: str, origin: Origin, text: bool) -> pa.Array:
    if _is_text(values.type) and text:
        lower = pc.utf8_lower(pc.utf8_trim_whitespace(values))
        named = pc.index_in(lower, value_set=pa.array(["false", "true"]).cast(lower.type))
        values = pc.coalesce(named.cast(pa.string()), lower.cast(pa.string()))
    labels = _numbers(values, column, origin, text)
    bad = ~((labels == 0.0) | (labels == 1.0))
    if bad.any():
        index = int(bad.argmax())
        found = "missing" if np.isnan(labels[index]) else f"{labels[index]:g}"
        raise origin.error(
            column, f"the label must be 0 or 1 but is {found}; drop or mend the row", index
        )
    return pa.array(labels.astype(np.float32))


def _timestamps(values: pa.Array, schema: Schema, origin: Origin, text: bool) -> pa.Array:
    """Int64, µs since epoch."""
    config = schema.timestamp
    kind = values.type
    if values.null_count:
        index = int(pc.is_null(values).to_numpy(zero_copy_only=False).argmax())
        raise origin.error(config.column, "the timestamp is missing; drop or mend the row", index)
    if _is_text(kind):
        values = _parse_timestamps(pc.utf8_trim_whitespace(values), config, origin)
        kind = values.type
    if pa.types.is_date(kind):
        values = values.cast(pa.timestamp("us"))
        kind = values.type
    if pa.types.is_timestamp(kind):
        if kind.tz is None:
            values = pc.assume_timezone(
                values, config.timezone, ambiguous="earliest", nonexistent="latest"
            )
        microseconds = values.cast(pa.timestamp("us", values.type.tz), safe=False).cast(pa.int64())
        return _in_range(microseconds, config, origin)
    if pa.types.is_integer(kind):
        # Beyond 64 bits with a sign it is out of range in any unit.
        numbers = (
            pc.min_element_wise(values, pa.scalar(2**63 - 1, pa.uint64()))
            if (kind == pa.uint64())
            else values
        )
        return _in_range(_scaled(numbers.cast(pa.int64()), config, origin), config, origin)
    if pa.types.is_floating(kind):
        numbers = values.cast(pa.float64()).to_numpy()
        if not np.isfinite(numbers).all():
            index = int((~np.isfinite(numbers)).argmax())
            raise origin.error(
                config.column, "the timestamp is NaN or infinite; drop or mend the row", index
            )
        factor = 1e-3 if config.unit == "ns" else float(_US_PER_UNIT[config.unit])
        clipped = np.clip(np.round(numbers * factor), -9.2e18, 9.2e18)
        return _in_range(pa.array(clipped.astype(np.int64)), config, origin)
    raise origin.error(config.column, f"a timestamp can't be read from type {kind}")


def _scaled(values: pa.Array, config: Timestamp, origin: Origin) -> pa.Array:
    """Whole numbers in the schema's unit as µs."""
    numbers = values.to_numpy()
    if config.unit == "ns":
        return pa.array(numbers // 1000)
    factor = _US_PER_UNIT[config.unit]
    limit = _TIMESTAMP_RANGE_US[1] // factor
    # Clipped to what is still refused, so that the product can't overflow into a valid date.
    return pa.array(np.clip(numbers, -limit - 1, limit + 1) * factor)


def _in_range(values: pa.Array, config: Timestamp, origin: Origin) -> pa.Array:
    numbers = values.to_numpy()
    bad = (numbers < _TIMESTAMP_RANGE_US[0]) | (numbers > _TIMESTAMP_RANGE_US[1])
    if bad.any():
        raise origin.error(
            config.column,
            f"the timestamp lies outside the years 1 to 9000; is its unit {config.unit}?",
            int(bad.argmax()),
        )
    return values


def _parse_timestamps(values: pa.Array, config: Timestamp, origin: Origin) -> pa.Array:
    """Text as whole numbers, numbers, or ISO timestamps; one form a table."""
    forms = (pa.int64(), pa.float64(), pa.timestamp("us"), pa.timestamp("us", "UTC"))
    for kind in forms:
        if _parses(values[:1], kind):
            try:
                return values.cast(kind)
            except pa.ArrowInvalid:
                if kind == pa.int64() and _parses(values, pa.float64()):
                    continue
                index = _first_unparsable(values, kind)
                raise origin.error(
                    config.column,
                    f"{values[index].as_py()!r} is no timestamp of the same form as those before",
                    index,
                ) from None
    if not len(values):
        return values.cast(pa.int64())
    raise origin.error(
        config.column,
        f"{values[0].as_py()!r} is no timestamp; use a number or ISO text (2022-04-08T16:00:00)",
        0,
    )


def _parses(values: pa.Array, kind: pa.DataType) -> bool:
    try:
        values.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _first_unparsable(values: pa.Array, kind: pa.DataType) -> int:
    """Index of the first value that can't be cast, found by bisection over prefixes."""
    return bisect.bisect_left(
        range(len(values)), True, key=lambda i: not _parses(values[: i + 1], kind)
    )
