"""From profiles of columns to a schema, and a remark on every choice that a person should check."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from diet_ray.data.infer.columns import Column, is_nested, label_auc, profile
from diet_ray.data.infer.sample import Sample
from diet_ray.data.schema import (
    FORBIDDEN_IN_NAMES,
    MAX_NAME_BYTES,
    Field,
    Label,
    Schema,
    Timestamp,
    is_field_name,
)
from diet_ray.documents import shown
from diet_ray.errors import DataError

LABEL_WORDS = (
    "label", "click", "clicked", "clk", "target", "converted", "conversion", "y", "long", "like",
    "buy", "purchase",
)  # fmt: skip
TIME_WORDS = ("timestamp", "time", "ts", "datetime", "date", "hour", "when", "created")
USER_WORDS = ("user", "uid", "userid", "member", "customer", "visitor", "session", "device")
ITEM_WORDS = (
    "item", "itemid", "video", "product", "movie", "film", "ad", "article", "news", "song", "asin",
    "sku", "content", "post",
)  # fmt: skip
ID_WORDS = ("id", "uid", "code", "key", "hash", "zip", "category", "cat", "brand", "type", "tab")
OUTCOME_WORDS = (
    "like", "liked", "follow", "comment", "forward", "hate", "share", "dwell", "stay", "watch",
    "watched", "play", "played", "enter", "click", "clicks", "clicked", "buy", "bought", "cart",
    "fav", "favorite", "favourite", "purchase", "conversion", "converted", "revenue", "long",
)  # fmt: skip
"""In a column's name they speak of what came of the event."""
FEW_VALUES = 50
"""Whole numbers of so few values, each of them often, are names, not amounts."""
LEAK_AUC = 0.95
"""A column that alone sorts the label so well is more likely its consequence than its cause."""
MANY_VALUES = 1_000_000
"""More values than this are hashed rather than kept."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    schema: Schema
    remarks: dict[str, str]
    """By field, `timestamp` or `label`."""
    left_out: dict[str, str]
    """Columns that aren't fields, and why."""


def propose(sample: Sample) -> Proposal:
    """Raises `DataError` if no column can be the label, or the time."""
    rows = sample.rows
    twice = [n for n, count in Counter(rows.column_names).items() if count > 1]
    if twice:
        raise DataError(f"{sample.file}: column {shown(twice[0])} is there twice; rename one")
    left_out = {f.name: f"type {f.type}" for f in rows.schema if is_nested(f.type)}
    columns = [profile(n, rows[n].combine_chunks()) for n in rows.column_names if n not in left_out]
    time = _best(
        [c for c in columns if c.is_time and not c.num_missing], TIME_WORDS, need_word=False
    )
    if time is None:
        raise DataError(
            f"{sample.file}: no column looks like a time (dates, ISO text, or numbers since 1970), "
            "without which there is no order to learn in; add one"
        )
    binary = [c for c in columns if c.is_binary and not c.num_missing]
    label = _best(binary, LABEL_WORDS, need_word=False)
    if label is None:
        raise DataError(f"{sample.file}: no column holds just 0 and 1, so there is no label")
    truth = pc.cast(rows[label.name], pa.int8()).combine_chunks().to_numpy() == 1
    remarks: dict[str, str] = {}
    fields: list[Field] = []
    names = set(rows.column_names)
    for column in columns:
        if column.name in (time.name, label.name):
            continue
        column = replace(column, label_auc=label_auc(rows[column.name].combine_chunks(), truth))
        why = _reason_to_leave_out(column)
        if why is not None:
            left_out[column.name] = why
            continue
        name = column.name if is_field_name(column.name) else _field_name(column.name, names)
        field, remark = _field(column, sample, name)
        fields.append(field)
        names.add(field.name)
        remarks[field.name] = remark
    by_name = {c.name: c for c in columns}
    known = {f.source_column: f.name for f in fields if f.kind == "categorical"}
    named = [by_name[column] for column in known]
    user, item = _best(named, USER_WORDS, need_word=True), _best(named, ITEM_WORDS, need_word=True)
    if user is not None and item is not None and user is not item:
        history_of = known[item.name]
        name = _field_name(f"past_{history_of}", names)
        fields.append(
            Field(name=name, kind="sequence", history_of=history_of, user=known[user.name])
        )
        remarks[name] = "built from the user's own earlier rows with label 1"
    if not fields:
        raise DataError(f"{sample.file}: no column is left for a field: {left_out}")
    others = [c.name for c in binary if c is not label]
    rate = float(truth.mean())
    remarks["label"] = f"{rate:.1%} are 1" + (
        f"; could also be {', '.join(others[:5])}" if others else ""
    )
    remarks["timestamp"] = "days begin and end in this time zone"
    return Proposal(
        schema=Schema(
            timestamp=Timestamp(column=time.name, unit=time.time_unit or "s"),
            label=Label(column=label.name),
            fields=tuple(fields),
        ),
        remarks=remarks,
        left_out=left_out,
    )


def _best(columns: list[Column], words: tuple[str, ...], *, need_word: bool) -> Column | None:
    """The column whose name has the earliest of the words; else, if allowed, the first one."""
    ranked = [
        (min((words.index(w) for w in c.words if w in words), default=len(words)), i, c)
        for i, c in enumerate(columns)
    ]
    if need_word:
        ranked = [r for r in ranked if r[0] < len(words)]
    return min(ranked, key=lambda r: r[:2])[2] if ranked else None


def _reason_to_leave_out(column: Column) -> str | None:
    num_present = column.num_rows - column.num_missing
    if column.num_distinct <= 1 and not column.is_list:
        return "one value everywhere" if num_present else "always empty"
    if column.label_auc is not None and column.label_auc >= LEAK_AUC:
        return (
            f"tells the label by itself (AUC {column.label_auc:.3f}): an outcome? Add it only if "
            "it is known before the event"
        )
    if column.is_prose:
        return "free text"
    if column.words & set(OUTCOME_WORDS):
        return "sounds like what came of the event. Add it only if it is known before"
    if "date" in column.words:
        return "the date itself, which no later row has again"
    is_float = pa.types.is_floating(column.type)
    if column.num_distinct == num_present > FEW_VALUES and not is_float and not column.is_list:
        return "another value in every row: the row's own id?"
    if pa.types.is_temporal(column.type):
        return "a second time; derive hour, age or the like from it"
    return None


def _field_name(column: str, taken: Collection[str]) -> str:
    """The nearest name to the column's own that a field may have and that is free."""
    allowed = re.sub(FORBIDDEN_IN_NAMES, "_", column).lstrip("_") or "column"
    while len(allowed.encode()) > MAX_NAME_BYTES - len("_999"):
        allowed = allowed[:-1]
    name, count = allowed, 1
    while name in taken:
        count += 1
        name = f"{allowed}_{count}"
    return name


def _field(column: Column, sample: Sample, name: str) -> tuple[Field, str]:
    source = None if name == column.name else column.name
    values = f"{column.num_distinct:,} values"
    if column.num_missing:
        values += f", {column.num_missing / column.num_rows:.0%} missing"
    if column.is_list or column.separator is not None:
        separator = column.separator or "|"
        field = Field(name=name, kind="sequence", column=source, separator=separator)
        return field, values if column.is_list else f"items separated by {separator!r}"
    is_named = bool(column.words & set(USER_WORDS + ITEM_WORDS + ID_WORDS))
    has_few = column.num_distinct <= min(FEW_VALUES, column.num_rows / 5)
    is_category = not column.is_number or (column.is_whole and (is_named or has_few))
    if not is_category:
        return Field(name=name, kind="numeric", column=source), values
    min_count = 1
    # Of a sample's values, those that occur once say how many more a whole log will have.
    if column.num_distinct > 1_000 and column.num_once > column.num_distinct / 4:
        min_count = 2
        values += f", {column.num_once / column.num_distinct:.0%} of them once: min_count 2"
    buckets = 0
    if not sample.is_whole and _extrapolated(column) > MANY_VALUES:
        buckets, min_count = MANY_VALUES, 1
        values += " in the first rows, nearly all new: hashed"
    field = Field(
        name=name, kind="categorical", column=source, min_count=min_count, hash_buckets=buckets
    )
    return field, values


def _extrapolated(column: Column) -> float:
    """Values among ten times as many rows, if new ones go on coming at the rate of those that occur
    once (Good-Turing)."""
    num_present = max(1, column.num_rows - column.num_missing)
    return column.num_distinct + 9 * num_present * (column.num_once / num_present)
