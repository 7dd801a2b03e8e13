from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from diet_ray.errors import DistilledSetError
from diet_ray.memory.fusion import Fusion, FusionConfig, allot, apportion, fuse
from diet_ray.memory.slots import apply_changes, canonical, check_slots, to_columns, with_columns
from tests.memory.small_memory import make_slots

Policy = Literal["merge", "evict"]
POLICIES: tuple[Policy, ...] = ("merge", "evict")
BOTH = pytest.mark.parametrize("policy", POLICIES)


def result_of(slots: pa.Table, fusion: Fusion) -> pa.Table:
    return apply_changes(slots, slots.slice(0, 0), fusion.changed, fusion.removed)


def stages_of(sizes: list[int], seed: int = 0) -> pa.Table:
    tables, first = [], 0
    for stage, size in enumerate(sizes):
        tables.append(make_slots(size, first_slot=first, stage=stage, seed=seed))
        first += size
    return pa.concat_tables(tables).combine_chunks()


def identical(n: int) -> pa.Table:
    """n slots of one stage and stratum with the same content."""
    slots = make_slots(n)
    columns = {name: np.repeat(values[:1], n, axis=0) for name, values in to_columns(slots).items()}
    columns["_slot"] = np.arange(n)
    return with_columns(slots, columns)


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(0, 25), min_size=1, max_size=5),
    budget=st.integers(1, 60),
    policy=st.sampled_from(POLICIES),
    seed=st.integers(0, 1000),
)
def test_budget_and_weight_are_kept_and_nothing_is_invented(
    sizes: list[int], budget: int, policy: Policy, seed: int
) -> None:
    slots = stages_of(sizes, seed)
    fusion = fuse(slots, budget, FusionConfig(policy=policy))
    result = result_of(slots, fusion)

    assert result.num_rows == min(budget, slots.num_rows)
    before, after = slots["_weight"].to_numpy(), result["_weight"].to_numpy()
    assert after.sum() == pytest.approx(before.sum(), rel=1e-12)
    check_slots(result)
    # Whatever isn't averaged comes from one slot as it was, under its own number.
    own = {row["_slot"]: row for row in slots.to_pylist()}
    for row in result.to_pylist():
        for name in ("_row", "_timestamp", "_label", "_stratum", "user", "item", "watched"):
            assert row[name] == own[row["_slot"]][name]
    # Averages stay within what they average.
    for name in ("price", "_residual", "_soft_label"):
        values, fused = slots[name].to_numpy(), result[name].to_numpy()
        if fused.size:
            assert fused.min() >= values.min() - 1e-5
            assert fused.max() <= values.max() + 1e-5
    # Per stratum the weight is kept wherever each (stage, stratum) has a place.
    groups = set(zip(slots["_birth_stage"].to_pylist(), slots["_stratum"].to_pylist(), strict=True))
    if len(sizes) == 1 and budget >= len(groups):
        for stratum in {g[1] for g in groups}:
            was = before[slots["_stratum"].to_numpy() == stratum].sum()
            now = after[result["_stratum"].to_numpy() == stratum].sum()
            assert now == pytest.approx(was, rel=1e-9)


@settings(deadline=None)
@given(seed=st.integers(0, 1000), policy=st.sampled_from(POLICIES), budget=st.integers(1, 40))
def test_order_of_rows_doesn_t_matter(seed: int, policy: Policy, budget: int) -> None:
    slots = stages_of([15, 20, 10], seed)
    order = np.random.default_rng(seed).permutation(slots.num_rows)
    shuffled = slots.take(pa.array(order))
    one = fuse(slots, budget, FusionConfig(policy=policy))
    other = fuse(shuffled, budget, FusionConfig(policy=policy))
    assert one.changed.equals(other.changed)
    assert one.removed.tolist() == other.removed.tolist()


@BOTH
def test_within_budget_nothing_happens(policy: Policy) -> None:
    fusion = fuse(make_slots(5), 5, FusionConfig(policy=policy))
    assert fusion.changed.num_rows == 0
    assert fusion.removed.size == 0


def test_merged_slot_by_hand() -> None:
    slots = with_columns(
        identical(2),
        {
            "_weight": np.array([1.0, 3.0]),
            "_soft_label": np.array([0.0, 2.0]),
            "_residual": np.array([0.4, 0.0]),
            "price": np.array([1.0, 5.0]),
            "user": np.array([4, 7]),
            "_key": np.array([0.5, 0.9]),
            "_age": np.array([3, 2]),
        },
    )
    fusion = fuse(slots, 1, FusionConfig(policy="merge"))
    (merged,) = fusion.changed.to_pylist()
    assert fusion.removed.tolist() == [0]
    assert merged["_slot"] == 1
    assert merged["user"] == 7
    assert merged["_weight"] == 4.0
    assert merged["price"] == pytest.approx(4.0)
    assert merged["_residual"] == pytest.approx(0.1)
    assert merged["_soft_label"] == pytest.approx(logit((0.5 + 3 * expit(2.0)) / 4), rel=1e-6)
    assert merged["_key"] == 0.5
    assert merged["_age"] == 3


def test_merge_joins_the_most_similar_and_leaves_the_others_alone() -> None:
    slots = with_columns(
        identical(4), {"user": np.array([1, 2, 2, 3]), "_soft_label": np.array([0, 1, 1.01, 0])}
    )
    fusion = fuse(slots, 3, FusionConfig(policy="merge"))
    assert fusion.removed.tolist() == [2]
    assert fusion.changed["_slot"].to_pylist() == [1]


def test_merge_keeps_labels_apart_while_there_are_places() -> None:
    # The two nearest are of different labels.
    soft_label = np.array([-5.0, 0.0, 0.0, 5.0])
    slots = with_columns(
        identical(4), {"_label": np.array([0, 0, 1, 1]), "_soft_label": soft_label}
    )
    result = result_of(slots, fuse(slots, 2, FusionConfig(policy="merge")))
    assert result["_slot"].to_pylist() == [0, 2]
    assert result["_label"].to_pylist() == [0.0, 1.0]


def test_merge_joins_the_nearest_soft_labels() -> None:
    slots = with_columns(identical(3), {"_soft_label": np.array([3.0, 1.0, 0.0])})
    fusion = fuse(slots, 2, FusionConfig(policy="merge"))
    assert fusion.changed["_slot"].to_pylist() == [1]
    assert fusion.removed.tolist() == [2]


@pytest.mark.parametrize(("scale", "users"), [(0.1, [4, 7]), (10.0, [4, 4])])
def test_soft_labels_count_by_their_scale_against_fields(scale: float, users: list[int]) -> None:
    # Another user's slot lies between two of one user, in soft labels alone.
    slots = with_columns(
        identical(3),
        {
            "user": np.array([4, 4, 7]),
            "_soft_label": np.array([0.0, 1.0, 0.5]),
            "_weight": np.array([2.0, 2.0, 1.0]),
        },
    )
    config = FusionConfig(policy="merge", soft_label_scale=scale)
    assert result_of(slots, fuse(slots, 2, config))["user"].to_pylist() == users


def test_evict_keeps_the_lowest_keys_and_their_proportions() -> None:
    slots = with_columns(
        identical(4),
        {"_key": np.array([0.4, 0.1, 0.3, 0.2]), "_weight": np.array([1.0, 2.0, 4.0, 3.0])},
    )
    fusion = fuse(slots, 2, FusionConfig(policy="evict"))
    assert fusion.removed.tolist() == [0, 2]
    assert fusion.changed["_slot"].to_pylist() == [1, 3]
    assert fusion.changed["_weight"].to_pylist() == pytest.approx([4.0, 6.0])


@BOTH
def test_early_stages_keep_their_share_of_a_fixed_budget(policy: Policy) -> None:
    memory = make_slots(0)
    for stage in range(12):
        new = make_slots(60, first_slot=60 * stage, stage=stage)
        new = with_columns(new, {"_weight": np.full(60, 10.0)})
        memory = pa.concat_tables([memory, new]).combine_chunks()
        memory = result_of(memory, fuse(memory, 60, FusionConfig(policy=policy)))
    assert np.bincount(memory["_birth_stage"].to_numpy()).tolist() == [5] * 12
    weight = np.bincount(memory["_birth_stage"].to_numpy(), memory["_weight"].to_numpy())
    assert weight == pytest.approx(np.full(12, 600.0))


def test_fewer_places_than_groups_keeps_both_labels() -> None:
    slots = stages_of([30, 30, 30])
    result = result_of(slots, fuse(slots, 4, FusionConfig()))
    before, after = to_columns(slots), to_columns(result)
    for label in (0.0, 1.0):
        was = before["_weight"][before["_label"] == label].sum()
        now = after["_weight"][after["_label"] == label].sum()
        assert now == pytest.approx(was, rel=1e-9)


@pytest.mark.parametrize(("other_label", "heir"), [(1.0, 2), (0.0, 3)])
def test_a_group_without_a_place_joins_its_label_in_its_own_stage_or_stratum(
    other_label: float, heir: int
) -> None:
    """Each of four stages has one place; the last slot's own is taken by a larger stratum."""
    columns = {
        "_birth_stage": np.array([0, 1, 2, 2, 3, 2]),
        "_stratum": np.array([5, 3, 0, 0, 5, 5]),
        "_label": np.array([1.0, 1.0, other_label, other_label, 1.0, 1.0]),
        "_weight": np.array([3.0, 3.0, 1.0, 1.0, 3.0, 1.0]),
    }
    group, places = allot(columns, 4)
    assert places.tolist() == [1, 1, 1, 1]
    assert group.tolist() == [0, 1, 2, 2, 3, heir]


def test_no_budget_is_refused() -> None:
    with pytest.raises(DistilledSetError, match="budget"):
        fuse(make_slots(3), 0, FusionConfig())


@pytest.mark.parametrize(
    ("share", "capacity", "places", "expected"),
    [
        ([1, 1, 1], [9, 9, 9], 6, [2, 2, 2]),
        ([1, 1, 1], [9, 9, 9], 7, [3, 2, 2]),
        ([6, 3, 1], [9, 9, 9], 10, [6, 3, 1]),
        ([100, 1, 1], [9, 9, 9], 10, [8, 1, 1]),
        ([100, 1, 1], [4, 9, 9], 10, [4, 3, 3]),
        ([0.99, 0.005, 0.005], [2, 100, 100], 50, [2, 24, 24]),
        ([100, 3, 2, 1], [8, 9, 9, 9], 11, [8, 1, 1, 1]),
        ([1, 5, 3], [9, 9, 9], 2, [0, 1, 1]),
        ([2, 1], [5, 5], 0, [0, 0]),
    ],
)
def test_apportion_by_hand(
    share: list[float], capacity: list[int], places: int, expected: list[int]
) -> None:
    given = apportion(np.array(share, dtype=float), np.array(capacity), places)
    assert given.tolist() == expected


@given(
    st.lists(st.tuples(st.floats(1e-6, 1e9), st.integers(1, 50)), min_size=1, max_size=20),
    st.data(),
)
def test_apportion_gives_out_every_place(
    items: list[tuple[float, int]], data: st.DataObject
) -> None:
    share, capacity = (np.array(v) for v in zip(*items, strict=True))
    places = data.draw(st.integers(0, int(capacity.sum())))
    given_places = apportion(share, capacity, places)
    assert given_places.sum() == places
    assert (given_places <= capacity).all()
    assert places < len(items) or (given_places >= 1).all()


def test_canonical_form_survives_fusion() -> None:
    slots = stages_of([20, 20])
    result = result_of(slots, fuse(slots, 11, FusionConfig()))
    assert canonical(result, slots.schema).equals(result)
