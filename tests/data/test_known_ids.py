from __future__ import annotations

import pytest
import torch

from diet_ray.data.batch import Batch, FeatureSpec, SequenceSpec
from diet_ray.data.known_ids import KnownIds

FEATURES = FeatureSpec(
    categorical=("user", "item"),
    num_ids=(6, 8),
    numeric=("price",),
    sequence=(
        SequenceSpec(name="seen", max_length=3, target="item", num_ids=8),
        SequenceSpec(name="tags", max_length=2, target=None, num_ids=5),
        SequenceSpec(name="liked", max_length=1, target="item", num_ids=8),
    ),
)


def rows(categorical: list[list[int]], sequence: list[list[list[int]]]) -> Batch:
    n = len(categorical)
    return Batch(
        torch.tensor(categorical, dtype=torch.int32),
        torch.arange(n, dtype=torch.float32)[:, None],
        torch.tensor(sequence, dtype=torch.int32),
        torch.arange(n, dtype=torch.float32) % 2,
    )


SET = rows(
    [[2, 3], [5, 3]],
    [[[4, 3, 0], [2, 0, 0], [0, 0, 0]], [[0, 0, 0], [2, 4, 0], [7, 0, 0]]],
)


def test_ids_of_a_vocabulary_are_those_of_all_fields_that_share_it() -> None:
    known = KnownIds.of(SET, FEATURES)
    assert known.ids("user").tolist() == [2, 5]
    assert known.ids("item").tolist() == [3, 4, 7]
    assert known.ids("seen").tolist() == known.ids("liked").tolist() == [3, 4, 7]
    assert known.ids("tags").tolist() == [2, 4]


def test_what_does_not_occur_becomes_unknown_and_padding_stays() -> None:
    known = KnownIds.of(SET, FEATURES)
    others = rows(
        # The last row's ids came after the set was made.
        [[2, 7], [3, 2], [1, 4], [6, 9]],
        [
            [[3, 5, 7], [2, 3, 0], [6, 0, 0]],
            [[0, 0, 0], [4, 4, 0], [4, 0, 0]],
            [[1, 2, 0], [1, 0, 0], [0, 0, 0]],
            [[3, 8, 0], [5, 2, 0], [9, 0, 0]],
        ],
    )
    mapped = known.map(others)
    assert mapped.categorical.tolist() == [[2, 7], [1, 1], [1, 4], [1, 1]]
    assert mapped.sequence.tolist() == [
        [[3, 1, 7], [2, 1, 0], [1, 0, 0]],
        [[0, 0, 0], [4, 4, 0], [4, 0, 0]],
        [[1, 1, 0], [1, 0, 0], [0, 0, 0]],
        [[3, 1, 0], [1, 2, 0], [1, 0, 0]],
    ]
    assert mapped.categorical.dtype == mapped.sequence.dtype == torch.int32
    assert mapped.numeric is others.numeric
    assert mapped.label is others.label
    # The rows that were mapped are not written to.
    assert others.categorical.tolist() == [[2, 7], [3, 2], [1, 4], [6, 9]]


def test_a_set_knows_its_own_rows() -> None:
    mapped = KnownIds.of(SET, FEATURES).map(SET)
    assert torch.equal(mapped.categorical, SET.categorical)
    assert torch.equal(mapped.sequence, SET.sequence)


def test_no_rows_and_no_fields() -> None:
    empty = FeatureSpec(categorical=(), num_ids=(), numeric=("price",), sequence=())
    none = Batch(
        torch.empty(0, 0, dtype=torch.int32),
        torch.empty(0, 1),
        torch.empty(0, 0, 0, dtype=torch.int32),
        torch.empty(0),
    )
    assert len(KnownIds.of(none, empty).map(none)) == 0
    nothing_seen = KnownIds.of(SET[:0], FEATURES).map(SET)
    assert nothing_seen.categorical.tolist() == [[1, 1], [1, 1]]
    assert nothing_seen.sequence[0].tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_an_id_beyond_the_features_is_refused() -> None:
    with pytest.raises(IndexError):
        KnownIds.of(rows([[6, 3]], [[[0, 0, 0]] * 3]), FEATURES)
