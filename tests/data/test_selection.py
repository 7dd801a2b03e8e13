from __future__ import annotations

import pytest
import torch

from diet_ray.data.batch import Batch, FeatureSpec, SequenceSpec
from diet_ray.data.selection import select_fields
from diet_ray.errors import ConfigError

FEATURES = FeatureSpec(
    categorical=("user", "item"),
    num_ids=(7, 9),
    numeric=("price", "age"),
    sequence=(
        SequenceSpec(name="seen", max_length=3, target="item", num_ids=9),
        SequenceSpec(name="tags", max_length=2, target=None, num_ids=5),
    ),
)
BATCH = Batch(
    torch.tensor([[2, 3], [4, 5]], dtype=torch.int32),
    torch.tensor([[0.1, 0.2], [0.3, 0.4]]),
    torch.tensor([[[3, 4, 5], [2, 3, 0]], [[5, 0, 0], [4, 0, 0]]], dtype=torch.int32),
    torch.tensor([0.0, 1.0]),
)


def test_nothing_left_out_is_the_log_itself() -> None:
    selection = select_fields(FEATURES, ())
    assert selection.features == FEATURES
    assert selection(BATCH) is BATCH


def test_fields_of_every_kind_by_hand() -> None:
    selection = select_fields(FEATURES, ("user", "price", "seen"))
    assert selection.features.categorical == ("item",)
    assert selection.features.num_ids == (9,)
    assert selection.features.numeric == ("age",)
    assert [s.name for s in selection.features.sequence] == ["tags"]
    rows = selection(BATCH)
    assert rows.categorical.tolist() == [[3], [5]]
    assert torch.equal(rows.numeric, BATCH.numeric[:, 1:])
    # Only as wide as the longest sequence that is left.
    assert rows.sequence.tolist() == [[[2, 3]], [[4, 0]]]
    assert rows.label is BATCH.label


def test_a_history_without_its_target_keeps_its_items() -> None:
    seen = select_fields(FEATURES, ("item",)).features.sequence[0]
    assert (seen.name, seen.target, seen.num_ids) == ("seen", None, 9)


def test_unknown_and_all_fields_are_refused() -> None:
    with pytest.raises(ConfigError, match="no field `usr`; fields: user, item, price"):
        select_fields(FEATURES, ("usr",))
    with pytest.raises(ConfigError, match="no field is left"):
        select_fields(FEATURES, ("user", "item", "price", "age", "seen", "tags"))
