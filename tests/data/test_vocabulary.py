from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from diet_ray.data.vocabulary import HashedVocabulary, Vocabulary, stable_hash

VALUES = st.lists(st.one_of(st.none(), st.sampled_from("abcdefgh")), max_size=30)


def text(values: list) -> pa.Array:
    return pa.array(values, pa.string())


def test_ids_by_hand() -> None:
    v = Vocabulary(min_count=2)
    first = v.learn(text(["b", "a", "b", None]))
    v.admit()
    assert v.ids(first).tolist() == [2, 1, 2, 1]  # `a` was seen once
    second = v.learn(text(["a", "c", "b"]))
    v.admit()
    assert v.ids(second).tolist() == [3, 1, 2]  # the second `a`, in another stage, admits it
    assert v.num_ids == 4
    assert v.counts(second).tolist() == [2, 1, 3]
    assert v.counts(first)[3] == 0
    assert v.to_table().to_pydict() == {
        "value": ["b", "a", "c"], "id": [2, 3, 1], "count": [3, 2, 1],
    }  # fmt: skip


def test_looking_up_changes_nothing() -> None:
    v = Vocabulary()
    v.learn(text(["a"]))
    v.admit()
    before = v.to_table()
    codes = v.look_up(text(["new", "a", None, "a"]))
    v.admit()
    assert v.ids(codes).tolist() == [1, 2, 1, 2]
    assert v.to_table().equals(before)
    assert v.num_ids == 3


def test_numbers_and_their_text_are_one_value() -> None:
    v = Vocabulary()
    assert v.learn(pa.array([7, 8])).tolist() == v.learn(text(["7", "8"])).tolist()


@given(stages=st.lists(VALUES, min_size=1, max_size=5), min_count=st.integers(1, 4))
def test_ids_follow_the_counts_and_never_change(stages: list[list], min_count: int) -> None:
    v = Vocabulary(min_count)
    counts: Counter[str] = Counter()
    known: dict[str, int] = {}
    for values in stages:
        codes = v.learn(text(values))
        counts.update(x for x in values if x is not None)
        v.admit()
        ids = v.ids(codes)
        for value, i in zip(values, ids.tolist(), strict=True):
            if value is None or counts[value] < min_count:
                assert i == 1
            else:
                assert known.setdefault(value, i) == i >= 2
        table = v.to_table().to_pydict()
        assert dict(zip(table["value"], table["count"], strict=True)) == counts
        admitted = sorted(i for i in table["id"] if i >= 2)
        assert admitted == list(range(2, v.num_ids))


@given(
    values=VALUES, cuts=st.lists(st.integers(0, 30), max_size=4), hashed=st.booleans(),
    split=st.integers(0, 30),
)  # fmt: skip
def test_blocks_and_a_restart_change_nothing(
    values: list, cuts: list[int], hashed: bool, split: int
) -> None:
    def new() -> Vocabulary:
        return HashedVocabulary(5) if hashed else Vocabulary(2)

    whole = new()
    expected = whole.learn(text(values))
    whole.admit()
    parts = new()
    codes = []
    ends = sorted({*cuts, split, len(values)} & set(range(len(values) + 1)))
    for start, end in zip([0, *ends], ends, strict=False):
        codes += parts.learn(text(values[start:end])).tolist()
        if end == split:
            saved = parts.to_table()
            parts = new()
            parts.restore(saved)
    parts.admit()
    assert codes == expected.tolist()
    assert parts.to_table().equals(whole.to_table())
    assert parts.num_ids == whole.num_ids


def test_an_id_keeps_its_place_in_the_order_of_admission() -> None:
    v = Vocabulary(2)
    v.learn(text(["late", "early", "early"]))
    v.admit()
    v.learn(text(["late"]))
    v.admit()
    restored = Vocabulary(2)
    restored.restore(v.to_table())
    codes = restored.look_up(text(["late", "early"]))
    assert restored.ids(codes).tolist() == [3, 2]


def test_hashing_needs_no_vocabulary_and_counts_buckets() -> None:
    v = HashedVocabulary(10)
    codes = v.learn(text(["a", "b", None, "a"]))
    assert v.ids(codes).tolist() == codes.tolist()
    assert codes[2] == 1
    assert codes[0] == codes[3]
    assert set(codes[[0, 1]].tolist()) <= set(range(2, 12))
    assert v.num_ids == 12
    assert v.look_up(text(["a"]))[0] == codes[0]
    counts = v.counts(codes)
    assert counts[2] == 0
    assert counts[0] == (3 if codes[0] == codes[1] else 2)
    assert v.to_table().num_rows == 10


def reference_hash(value: str) -> int:
    mask = 2**64 - 1
    data = value.encode()
    h = len(data)
    for i, byte in enumerate(data):
        h += (byte + 1) * pow(0x9E3779B97F4A7C15, i + 1, 2**64)
    h &= mask
    h = ((h ^ (h >> 30)) * 0xBF58476D1CE4E5B9) & mask
    h = ((h ^ (h >> 27)) * 0x94D049BB133111EB) & mask
    return h ^ (h >> 31)


@given(st.lists(st.text(max_size=12), max_size=8))
def test_hashes_follow_the_formula(values: list[str]) -> None:
    assert stable_hash(values).tolist() == [reference_hash(v) for v in values]


def test_hashes_are_the_same_for_ever_and_spread_evenly() -> None:
    assert stable_hash(["", "a", "video-17"]).tolist() == [
        reference_hash(v) for v in ("", "a", "video-17")
    ]
    buckets = stable_hash([str(i) for i in range(20_000)]) % np.uint64(100)
    counts = np.bincount(buckets.astype(int), minlength=100)
    # Chi-squared with 99 degrees of freedom: mean 99, SD 14.
    assert ((counts - 200) ** 2 / 200).sum() < 99 + 5 * 14
