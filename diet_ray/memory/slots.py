"""The slot table: one Arrow row per synthetic row of the distilled dataset.

A slot is an encoded row of the log and what the memory knows about it: soft label, honest residual,
weight, birth stage, age, influence and reservoir key. The table is always in order of `_slot`,
holds no nulls and no metadata, and each column is one contiguous piece, so that equal tables have
equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_ray.data.schema import Schema
from diet_ray.errors import DistilledSetError

ROW_COLUMNS: dict[str, pa.DataType] = {
    "_row": pa.int64(),
    "_timestamp": pa.int64(),
    "_label": pa.float32(),
    "_stratum": pa.int32(),
}
SLOT_COLUMNS: dict[str, pa.DataType] = {
    "_slot": pa.int64(),
    "_birth_stage": pa.int32(),
    "_age": pa.int32(),
    "_soft_label": pa.float32(),
    "_residual": pa.float32(),
    "_weight": pa.float64(),
    "_influence": pa.float32(),
    "_key": pa.float64(),
}


def slot_schema(schema: Schema) -> pa.Schema:
    """Columns of a slot: those of an encoded row, fields in schema order, then the slot's own."""
    fields: dict[str, pa.DataType] = {}
    for f in schema.fields:
        if f.kind == "sequence":
            fields[f.name] = pa.list_(pa.int32(), f.max_length)
        else:
            fields[f.name] = pa.int32() if f.kind == "categorical" else pa.float32()
    return pa.schema(list((ROW_COLUMNS | fields | SLOT_COLUMNS).items()))


def empty_slots(schema: Schema) -> pa.Table:
    return slot_schema(schema).empty_table()


def boundary_slots(
    winners: pa.Table,
    *,
    soft_label: np.ndarray,
    residual: np.ndarray,
    birth_stage: int,
    next_slot: int,
) -> pa.Table:
    """The winners of a stage's reservoir as new slots, numbered from `next_slot` in time order.

    winners: encoded rows with `_key`, `_influence` and `_weight`; soft_label (logits) and residual
    (n,), in the order of the winners.
    """
    n = winners.num_rows
    columns = to_columns(winners)
    order = np.lexsort((columns["_row"], columns["_timestamp"]))
    columns |= {"_soft_label": np.asarray(soft_label), "_residual": np.asarray(residual)}
    columns = {name: values[order] for name, values in columns.items()}
    columns |= {
        "_slot": np.arange(next_slot, next_slot + n),
        "_birth_stage": np.full(n, birth_stage),
        "_age": np.zeros(n),
    }
    fields = {name: _plain(winners.schema.field(name).type) for name in field_names(winners)}
    layout = pa.schema(list((ROW_COLUMNS | fields | SLOT_COLUMNS).items()))
    return from_columns(columns, layout)


def next_slot(slots: pa.Table) -> int:
    """The lowest number above all slots of a table. (The store also knows those long gone.)"""
    return int(slots["_slot"].to_numpy().max()) + 1 if slots.num_rows else 0


def apply_changes(
    slots: pa.Table, added: pa.Table, changed: pa.Table, removed: np.ndarray
) -> pa.Table:
    """The table after removing slots, replacing whole rows by `_slot`, and adding new ones.

    In canonical form but for its columns, which may be in several pieces.
    All three are tables in canonical form, `removed` slot numbers int64 (r,). Raises
    `DistilledSetError` if a slot to change or remove isn't there, is named twice, or if an added
    one isn't above all others.
    """
    numbers = slots["_slot"].to_numpy()
    gone = _positions(numbers, np.asarray(removed, dtype=np.int64), "remove")
    replaced = _positions(numbers, changed["_slot"].to_numpy(), "change")
    both = np.intersect1d(gone, replaced)
    if both.size:
        raise DistilledSetError(f"slot {numbers[both[0]]}: can't be changed and removed at once")
    new = added["_slot"].to_numpy()
    if new.size and numbers.size and new[0] <= numbers[-1]:
        raise DistilledSetError(
            f"slot {new[0]}: a new slot must be numbered above all others (up to {numbers[-1]})"
        )
    if changed.num_rows:
        columns = {name: values.copy() for name, values in to_columns(slots).items()}
        for name, values in to_columns(changed).items():
            columns[name][replaced] = values
        slots = from_columns(columns, slots.schema)
    if gone.size:
        keep = np.ones(numbers.size, dtype=bool)
        keep[gone] = False
        slots = slots.filter(pa.array(keep))
    # Left in pieces: joining them would make every small update as dear as the memory is large.
    return pa.concat_tables([slots, added]) if added.num_rows else slots


def _positions(numbers: np.ndarray, wanted: np.ndarray, verb: str) -> np.ndarray:
    positions = np.searchsorted(numbers, wanted)
    found = np.zeros(wanted.size, dtype=bool)
    inside = positions < numbers.size
    found[inside] = numbers[positions[inside]] == wanted[inside]
    if not found.all():
        raise DistilledSetError(f"slot {wanted[~found][0]}: can't {verb} it, the memory has none")
    unique, counts = np.unique(wanted, return_counts=True)
    if unique.size < wanted.size:
        raise DistilledSetError(f"slot {unique[counts > 1][0]}: named twice among those to {verb}")
    return positions


def aged(slots: pa.Table, stage: int) -> pa.Table:
    """One stage older: what was born before `stage` ages by one as that stage is committed."""
    age = slots["_age"].to_numpy() + (slots["_birth_stage"].to_numpy() < stage)
    return with_columns(slots, {"_age": age})


def check_slots(slots: pa.Table, num_ids: Mapping[str, int] | None = None) -> None:
    """Raises `DistilledSetError` naming the slot and column that breaks an invariant.

    Slot numbers strictly ascend; weights are finite and above 0; labels are 0 or 1; soft labels,
    residuals and numeric fields are finite; ids are at least 0, and below `num_ids[field]` where
    that is given.
    """
    columns = to_columns(slots)
    numbers = columns["_slot"]
    _require(numbers, "_slot", np.diff(numbers, prepend=np.int64(-1)) > 0, "unique and ascending")
    weight = columns["_weight"]
    _require(numbers, "_weight", np.isfinite(weight) & (weight > 0), "finite and above 0")
    _require(numbers, "_label", np.isin(columns["_label"], (0.0, 1.0)), "0 or 1")
    _require(numbers, "_key", ~np.isnan(columns["_key"]), "a number")
    for name in ("_soft_label", "_residual", "_influence"):
        _require(numbers, name, np.isfinite(columns[name]), "finite")
    for name in field_names(slots):
        values = columns[name]
        if values.dtype.kind == "f":
            _require(numbers, name, np.isfinite(values), "finite")
            continue
        limit = (num_ids or {}).get(name, np.iinfo(np.int32).max)
        inside = (values >= 0) & (values < limit)
        whole_row = np.asarray(inside if inside.ndim == 1 else inside.all(axis=1))
        _require(numbers, name, whole_row, f"ids from 0 to {limit - 1}")


def _require(numbers: np.ndarray, column: str, holds: np.ndarray, what: str) -> None:
    if not holds.all():
        slot = numbers[np.flatnonzero(~holds)[0]]
        raise DistilledSetError(f"slot {slot}: column `{column}` must be {what}")


def canonical(table: pa.Table, layout: pa.Schema) -> pa.Table:
    """The same slots with the columns of `layout` in its order and types, ascending by `_slot`.

    One contiguous piece a column, no nulls, no metadata. Raises `DistilledSetError` naming a
    column that is missing, unknown, null, or of another type.
    """
    if len(set(table.column_names)) < table.num_columns:
        raise DistilledSetError("slots: a column is there twice")
    for name in layout.names:
        if name not in table.column_names:
            raise DistilledSetError(f"slots: column `{name}` is missing")
    for name in table.column_names:
        if name not in layout.names:
            raise DistilledSetError(f"slots: column `{name}` is none of the schema's")
        kind = layout.field(name).type
        found = table.schema.field(name).type
        if _plain(found) != kind:
            raise DistilledSetError(f"slots: column `{name}` must be {kind}, found {found}")
        items = pc.list_flatten(table[name]) if pa.types.is_nested(kind) else table[name]
        if table[name].null_count or items.null_count:
            raise DistilledSetError(f"slots: column `{name}` has nulls")
    columns = to_columns(table)
    numbers = columns["_slot"]
    if numbers.size > 1 and (np.diff(numbers) < 0).any():
        order = np.argsort(numbers, kind="stable")
        columns = {name: values[order] for name, values in columns.items()}
    return from_columns(columns, layout)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The same type, without a say on whether the items of a list may be null."""
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_type, kind.list_size)
    return kind


def field_names(slots: pa.Table) -> list[str]:
    """The log's own fields among the columns, in order."""
    return [name for name in slots.column_names if not name.startswith("_")]


def to_columns(table: pa.Table) -> dict[str, np.ndarray]:
    """Columns as arrays (rows,), sequences (rows, length); without copying where possible."""
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        if pa.types.is_fixed_size_list(array.type):
            flat = array.flatten().to_numpy(zero_copy_only=False)
            columns[name] = flat.reshape(len(array), array.type.list_size)
        else:
            columns[name] = array.to_numpy(zero_copy_only=False)
    return columns


def from_columns(columns: Mapping[str, np.ndarray], layout: pa.Schema) -> pa.Table:
    """Inverse of `to_columns`: the columns that `layout` names, in its order and types."""
    arrays = []
    for f in layout:
        values = columns[f.name]
        if pa.types.is_fixed_size_list(f.type):
            flat = pa.array(np.ascontiguousarray(values).reshape(-1), f.type.value_type)
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=f.type))
        else:
            kind = f.type.to_pandas_dtype()
            arrays.append(pa.array(np.ascontiguousarray(values).astype(kind, copy=False), f.type))
    return pa.Table.from_arrays(arrays, schema=layout)


def with_columns(table: pa.Table, replaced: Mapping[str, np.ndarray]) -> pa.Table:
    """The table with some columns' values replaced; types and order stay."""
    for name, values in replaced.items():
        index = table.schema.get_field_index(name)
        layout = pa.schema([table.schema.field(name)])
        column = from_columns({name: values}, layout).column(0)
        table = table.set_column(index, layout.field(0), column)
    return table
