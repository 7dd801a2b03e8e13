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


def test_nothing_occurs_where_there_are_no_rows() -> None:
    assert KnownIds.of(SET[:0], FEATURES).ids("item").tolist() == []


def test_an_id_beyond_the_features_is_refused() -> None:
    with pytest.raises(IndexError):
        KnownIds.of(rows([[6, 3]], [[[0, 0, 0]] * 3]), FEATURES)
