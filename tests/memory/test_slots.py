from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diet_ray.errors import DistilledSetError
from diet_ray.memory.slots import (
    aged,
    apply_changes,
    boundary_slots,
    canonical,
    check_slots,
    empty_slots,
    from_columns,
    next_slot,
    slot_schema,
    to_columns,
    with_columns,
)
from tests.memory.small_memory import click_schema, make_slots

NONE = np.empty(0, dtype=np.int64)
EMPTY = empty_slots(click_schema())


def test_schema_names_every_column_of_the_contract() -> None:
    layout = slot_schema(click_schema())
    assert layout.names == [
        *("_row", "_timestamp", "_label", "_stratum", "user", "item", "price", "watched"),
        *("_slot", "_birth_stage", "_age", "_soft_label", "_residual", "_weight"),
        *("_influence", "_key"),
    ]
    assert layout.field("watched").type == pa.list_(pa.int32(), 3)
    assert layout.field("_weight").type == pa.float64()


def test_boundary_slots_are_numbered_in_time_order_with_their_own_labels() -> None:
    winners = make_slots(3).select(
        [
            *("_row", "_timestamp", "_label", "_stratum", "user", "item", "price", "watched"),
            *("_key", "_influence", "_weight"),
        ]
    )
    winners = winners.take(pa.array([2, 0, 1]))
    slots = boundary_slots(
        winners,
        soft_label=np.array([0.2, 0.0, 0.1], dtype=np.float32),
        residual=np.array([-0.2, -0.0, -0.1], dtype=np.float32),
        birth_stage=4,
        next_slot=10,
    )
    assert slots.schema == slot_schema(click_schema())
    assert slots["_slot"].to_pylist() == [10, 11, 12]
    assert slots["_soft_label"].to_pylist() == pytest.approx([0.0, 0.1, 0.2])
    assert slots["_residual"].to_pylist() == pytest.approx([0.0, -0.1, -0.2])
    assert slots["_birth_stage"].to_pylist() == [4, 4, 4]
    assert slots["_age"].to_pylist() == [0, 0, 0]
    assert slots["watched"].to_pylist() == make_slots(3)["watched"].to_pylist()
    check_slots(slots)


@given(st.data())
def test_apply_changes_equals_a_dictionary_of_rows(data: st.DataObject) -> None:
    slots = make_slots(8)
    numbers = data.draw(st.permutations(range(8)))
    cut = data.draw(st.integers(0, 8))
    removed, changed_numbers = numbers[:cut], numbers[cut : data.draw(st.integers(cut, 8))]
    replacement = make_slots(8, seed=1)
    changed = canonical(replacement.take(pa.array(changed_numbers, pa.int64())), slots.schema)
    added = make_slots(data.draw(st.integers(0, 3)), first_slot=8)

    result = apply_changes(slots, added, changed, np.array(removed, dtype=np.int64))

    expected = {row["_slot"]: row for row in slots.to_pylist()}
    expected |= {row["_slot"]: row for row in changed.to_pylist()}
    expected = {k: v for k, v in expected.items() if k not in removed}
    expected |= {row["_slot"]: row for row in added.to_pylist()}
    assert result.to_pylist() == [expected[k] for k in sorted(expected)]


@pytest.mark.parametrize(
    ("added", "changed", "removed", "message"),
    [
        (EMPTY, EMPTY, np.array([9]), "slot 9: can't remove it"),
        (EMPTY, EMPTY, np.array([1, 1]), "slot 1: named twice"),
        (EMPTY, make_slots(1, first_slot=7), NONE, "slot 7: can't change it"),
        (EMPTY, make_slots(1, first_slot=2), np.array([2]), "slot 2: can't be changed and removed"),
        (make_slots(1, first_slot=3), EMPTY, NONE, "slot 3: a new slot must be numbered above"),
    ],
)
def test_apply_changes_refuses(
    added: pa.Table, changed: pa.Table, removed: np.ndarray, message: str
) -> None:
    with pytest.raises(DistilledSetError, match=message):
        apply_changes(make_slots(5), added, changed, removed)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("_weight", 0.0),
        ("_weight", np.nan),
        ("_weight", np.inf),
        ("_soft_label", np.inf),
        ("_residual", np.nan),
        ("_label", 0.5),
        ("_key", np.nan),
        ("price", np.nan),
        ("user", -1),
        ("item", 50),
        ("watched", 50),
        ("_slot", 1),
    ],
)
def test_check_slots_names_slot_and_column(column: str, value: float) -> None:
    slots = make_slots(4)
    columns = {name: values.copy() for name, values in to_columns(slots).items()}
    columns[column][2] = value
    broken = from_columns(columns, slots.schema)
    slot = columns["_slot"][2]
    with pytest.raises(DistilledSetError, match=f"slot {slot}: column `{column}`"):
        check_slots(broken, {"user": 50, "item": 50, "watched": 50})
    check_slots(slots, {"user": 50, "item": 50, "watched": 50})


def test_only_slots_born_earlier_age() -> None:
    slots = pa.concat_tables([make_slots(2, stage=1), make_slots(2, first_slot=2, stage=2)])
    assert aged(slots.combine_chunks(), 2)["_age"].to_pylist() == [1, 1, 0, 0]


def test_canonical_form_doesn_t_depend_on_how_a_table_was_made() -> None:
    whole = make_slots(6)
    pieces = pa.concat_tables([whole.slice(3), whole.slice(0, 3)]).select(whole.schema.names[::-1])
    again = canonical(pieces, whole.schema)
    assert again.equals(whole)
    assert [c.num_chunks for c in again.columns] == [1] * again.num_columns
    assert again.schema.metadata is None


def test_canonical_names_what_is_wrong_with_a_column() -> None:
    slots = make_slots(2)
    with pytest.raises(DistilledSetError, match="column `item` is missing"):
        canonical(slots.drop_columns(["item"]), slots.schema)
    with pytest.raises(DistilledSetError, match="column `extra` is none"):
        canonical(slots.append_column("extra", pa.array([1, 2])), slots.schema)
    index = slots.schema.get_field_index("price")
    with pytest.raises(DistilledSetError, match="`price` must be float, found int64"):
        canonical(slots.set_column(index, "price", pa.array([1, 2])), slots.schema)
    nulls = pa.array([1.0, None], pa.float32())
    with pytest.raises(DistilledSetError, match="`price` has nulls"):
        canonical(slots.set_column(index, "price", nulls), slots.schema)
    index = slots.schema.get_field_index("watched")
    items = pa.array([[1, 2, None], [1, 2, 3]], pa.list_(pa.int32(), 3))
    with pytest.raises(DistilledSetError, match="`watched` has nulls"):
        canonical(slots.set_column(index, "watched", items), slots.schema)


def test_columns_round_trip_and_replace() -> None:
    slots = make_slots(5)
    assert from_columns(to_columns(slots), slots.schema).equals(slots)
    part = slots.slice(1, 3)
    assert from_columns(to_columns(part), slots.schema).equals(part)
    replaced = with_columns(slots, {"_weight": np.arange(1.0, 6.0), "price": np.zeros(5)})
    assert replaced["_weight"].to_pylist() == [1, 2, 3, 4, 5]
    assert replaced.drop_columns(["_weight", "price"]).equals(
        slots.drop_columns(["_weight", "price"])
    )
    assert replaced.schema == slots.schema
    assert (next_slot(slots), next_slot(EMPTY)) == (5, 0)
