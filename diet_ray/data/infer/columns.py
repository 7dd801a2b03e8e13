"""What the values of one column look like."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Unit = Literal["s", "ms", "us", "ns"]

_SEPARATORS = ("|", ";", ",", " ")
_RANGES: dict[Unit, float] = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_EARLIEST_S, _LATEST_S = 631_152_000, 2_524_608_000
"""1990 and 2050: numbers between them, in one of the units, may be instants."""
WORDS_OF_TEXT = 6
"""Text of more words, mostly different, is prose."""


@dataclass(frozen=True, kw_only=True)
class Column:
    name: str
    type: pa.DataType
    num_rows: int
    num_missing: int
    num_distinct: int
    num_once: int
    """Values that occur once."""
    is_binary: bool
    is_list: bool
    separator: str | None
    """Of text that looks like a list of items."""
    is_prose: bool
    time_unit: Unit | None
    """Of numbers that may be instants."""
    is_time: bool
    """Whether it may be an instant, as a number, date or text."""
    label_auc: float | None = None
    """How well its values alone sort the label, 0.5 to 1; numbers only."""

    @property
    def is_number(self) -> bool:
        return pa.types.is_integer(self.type) or pa.types.is_floating(self.type)

    @property
    def is_whole(self) -> bool:
        return pa.types.is_integer(self.type) or pa.types.is_boolean(self.type)

    @property
    def words(self) -> set[str]:
        """Of its name: `itemId` and `item_id` are both item and id."""
        split = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", self.name)
        return {w.lower() for w in re.split(r"[^A-Za-z0-9]+", split) if w}


def is_nested(kind: pa.DataType) -> bool:
    """Whether a type is neither plain nor a list of plain values: no field can take it."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_nested(kind))


def profile(name: str, values: pa.Array) -> Column:
    """Of values whose type isn't nested."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = values.type
    present = values.drop_null()
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    items = present.flatten() if is_list else present
    counts = pc.value_counts(items).field("counts").to_numpy() if len(items) else np.zeros(0)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    unit = _unit(present) if pa.types.is_integer(kind) or pa.types.is_floating(kind) else None
    separator = _separator(present) if is_text else None
    return Column(
        name=name,
        type=kind,
        num_rows=len(values),
        num_missing=values.null_count,
        num_distinct=len(counts),
        num_once=int((counts == 1).sum()),
        is_binary=_is_binary(present, len(counts)),
        is_list=is_list,
        separator=separator,
        is_prose=is_text and _is_prose(present, len(counts)),
        time_unit=unit,
        is_time=unit is not None
        or pa.types.is_temporal(kind)
        or (is_text and _parses_as_time(present)),
    )


def label_auc(values: pa.Array, label: np.ndarray) -> float | None:
    """Area under the ROC curve of a numeric column alone, or of its negative, whichever is more."""
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return None
    numbers = pc.cast(values, pa.float64() if not pa.types.is_boolean(kind) else pa.int8())
    array = pc.fill_null(numbers, 0).to_numpy(zero_copy_only=False).astype(np.float64)
    num_positive = int(label.sum())
    num_negative = len(label) - num_positive
    if not num_positive or not num_negative:
        return None
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    ranks = mean_rank[inverse][label].sum()
    auc = (ranks - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative)
    return float(max(auc, 1 - auc))


def _unit(values: pa.Array) -> Unit | None:
    if not len(values):
        return None
    extremes = pc.min_max(values).as_py()
    for unit, factor in _RANGES.items():
        low, high = extremes["min"] / factor, extremes["max"] / factor
        if low >= _EARLIEST_S and high <= _LATEST_S:
            return unit
    return None


def _is_binary(values: pa.Array, num_distinct: int) -> bool:
    kind = values.type
    if pa.types.is_boolean(kind):
        return True
    if num_distinct != 2 or not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return False
    extremes = pc.min_max(values).as_py()
    return bool(extremes["min"] == 0 and extremes["max"] == 1)


def _separator(values: pa.Array) -> str | None:
    """The character that splits most values into items which come back in other values."""
    distinct = pc.unique(values)[:2_000]
    for separator in _SEPARATORS:
        has_one = pc.mean(pc.cast(pc.match_substring(distinct, separator), pa.float64())).as_py()
        if has_one is None or has_one < 0.3:
            continue
        items = pc.list_flatten(pc.split_pattern(distinct, separator))
        if pc.count_distinct(items).as_py() <= len(items) / 2 and not _is_bracketed(distinct):
            return separator
    return None


def _is_bracketed(values: pa.Array) -> bool:
    """Ranges such as (0,10] hold a comma and are no lists."""
    return bool(pc.mean(pc.cast(pc.match_substring_regex(values, r"^[\[(]"), pa.float64())).as_py())


def _is_prose(values: pa.Array, num_distinct: int) -> bool:
    if not len(values) or num_distinct < len(values) / 2:
        return False
    words = pc.add(pc.count_substring(values[:2_000], " "), 1)
    return bool(pc.mean(words).as_py() > WORDS_OF_TEXT)


def _parses_as_time(values: pa.Array) -> bool:
    if not len(values):
        return False
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            values[:1_000].cast(kind)
        except pa.ArrowException:
            continue
        return True
    return False
