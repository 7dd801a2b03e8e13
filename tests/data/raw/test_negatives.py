"""Negatives never come from the future, and depend on nothing but the log and the seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diet_ray.data.raw.log import LABEL, TIME, Negatives
from diet_ray.data.raw.negatives import (
    MERGE_TABLES,
    KnownItems,
    first_occurrences,
    merge_occurrences,
    mix,
)


def table(times: list[int], items: list, **more: list) -> pa.Table:
    return pa.table({TIME: pa.array(times, pa.int64()), "item": items, **more})


@given(
    steps=st.lists(st.integers(0, 2), min_size=1, max_size=40),
    data=st.data(),
    per_row=st.integers(1, 3),
    seed=st.integers(0, 5),
)
def test_no_item_is_drawn_before_it_exists(
    steps: list[int], data: st.DataObject, per_row: int, seed: int
) -> None:
    times = np.cumsum(steps).tolist()
    items = data.draw(
        st.lists(st.integers(0, 6), min_size=len(times), max_size=len(times)), label="items"
    )
    rows = table(times, items, user=list(range(len(times))))
    known = KnownItems.of(first_occurrences(rows.select([TIME, "item"]), "item"))
    born = {}
    for time, item in zip(times, items, strict=True):
        born.setdefault(item, time)
    made = known.add_negatives(rows, 0, Negatives(per_row=per_row, item="item", seed=seed))
    drawn = Counter()
    for row in made.to_pylist():
        if row[LABEL]:
            positive = row
            assert (row["item"], row[TIME]) == (items[row["user"]], times[row["user"]])
        else:
            # It follows its positive, at the same instant, with the same user.
            assert (row["user"], row[TIME]) == (positive["user"], positive[TIME])
            assert row["item"] != positive["item"]
            assert born[row["item"]] < row[TIME]
            drawn[row["user"]] += 1
    for user, (time, item) in enumerate(zip(times, items, strict=True)):
        others = [i for i, b in born.items() if b < time and i != item]
        assert drawn[user] == (per_row if others else 0)


def test_draws_depend_on_the_place_in_the_log_alone() -> None:
    rows = table(list(range(50)), [i % 9 for i in range(50)])
    known = KnownItems.of(first_occurrences(rows, "item"))
    negatives = Negatives(per_row=2, item="item", seed=4)
    whole = known.add_negatives(rows, 100, negatives)
    pieces = [
        known.add_negatives(rows.slice(a, b - a), 100 + a, negatives)
        for a, b in ((0, 13), (13, 14), (14, 50))
    ]
    assert pa.concat_tables(pieces).equals(whole)
    other = known.add_negatives(rows, 100, Negatives(per_row=2, item="item", seed=5))
    assert not other.equals(whole)


def test_draws_are_uniform_over_the_known_items() -> None:
    rows = pa.concat_tables([table([0] * 8, list(range(8))), table([1] * 8000, [8] * 8000)])
    known = KnownItems.of(first_occurrences(rows, "item"))
    made = known.add_negatives(rows, 0, Negatives(per_row=1, item="item"))
    drawn = Counter(r["item"] for r in made.to_pylist() if not r[LABEL])
    assert set(drawn) == set(range(8))
    assert all(abs(n - 1000) < 150 for n in drawn.values())


def test_attributes_go_with_the_item_and_text_items_work() -> None:
    rows = table([0, 1, 1, 2], ["a", "b", "b", "a"], kind=["x", "y", "z", "w"])
    first = first_occurrences(rows, "item")
    assert first.to_pydict() == {TIME: [0, 1], "item": ["a", "b"], "kind": ["x", "y"]}
    made = KnownItems.of(first).add_negatives(
        rows, 0, Negatives(per_row=1, item="item", attributes=("kind",))
    )
    found = [(r["item"], r["kind"], r[LABEL]) for r in made.to_pylist()]
    assert found == [
        ("a", "x", 1), ("b", "y", 1), ("a", "x", 0), ("b", "z", 1), ("a", "x", 0), ("a", "w", 1),
        ("b", "y", 0),
    ]  # fmt: skip


@pytest.mark.parametrize("num_tables", [1, MERGE_TABLES - 1, 3 * MERGE_TABLES])
def test_first_occurrences_are_merged_over_runs(num_tables: int) -> None:
    draw = np.random.default_rng(num_tables)
    tables = []
    for _ in range(num_tables):
        times = np.sort(draw.integers(0, 1000, 30))
        tables.append(first_occurrences(table(times.tolist(), draw.integers(0, 50, 30)), "item"))
    merged = merge_occurrences(tables, "item").to_pydict()
    expected: dict[int, int] = {}
    for t in tables:
        for row in t.to_pylist():
            expected[row["item"]] = min(row[TIME], expected.get(row["item"], 10**9))
    assert dict(zip(merged["item"], merged[TIME], strict=True)) == expected
    assert merged[TIME] == sorted(merged[TIME])


def test_mixing_is_splitmix64() -> None:
    # The first outputs of the reference generator seeded with 0.
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]
    state = np.array([0, 0x9E3779B97F4A7C15], np.uint64)
    assert mix(state, 0).tolist() == expected
