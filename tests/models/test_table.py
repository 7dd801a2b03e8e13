"""The embedding table: which row is whose, shared histories, first values."""

from __future__ import annotations

import torch

from diet_ray.data.batch import FeatureSpec
from diet_ray.models.base import EmbeddingTable, block_sizes, initial_table, vocabulary_names
from tests.models.rows import FEATURES, TAGS, random_batch, replace


def test_rows_of_every_position_by_hand() -> None:
    # Blocks: user 0–6, item 7–15, tags 16–21; watched shares the item's.
    table = EmbeddingTable(FEATURES, 2, linear=False, seed=0)
    assert vocabulary_names(FEATURES) == ("user", "item", "tags")
    assert table.block_starts == (0, 7, 16)
    assert block_sizes(FEATURES) == (7, 9, 6)
    assert table.weight.shape == (22, 2)
    batch = replace(
        random_batch(1),
        categorical=torch.tensor([[3, 8]], dtype=torch.int32),
        sequence=torch.tensor([[[8, 2, 0, 0], [5, 0, 0, 0]]], dtype=torch.int32),
    )
    rows = table.rows(batch)
    assert rows.dtype == torch.int64
    assert rows.tolist() == [[3, 15, 15, 9, 7, 7, 21, 16, 16, 16]]
    assert torch.equal(table.gather(rows)[0, 1], table.weight[15])
    assert (table.gather(rows)[0, 4:6] == 0).all()


def test_padding_and_first_order_weights_begin_at_zero() -> None:
    table = EmbeddingTable(FEATURES, 3, linear=True, seed=0)
    assert table.weight.shape == (22, 4)
    is_padding = torch.zeros(22, dtype=torch.bool)
    is_padding[list(table.block_starts)] = True
    assert (table.weight[is_padding] == 0).all()
    assert (table.weight[~is_padding, :3] != 0).all()
    assert (table.weight[:, 3] == 0).all()


def test_first_values_have_the_right_scale_and_differ_by_field_and_seed() -> None:
    spec = FeatureSpec(categorical=("a", "b"), num_ids=(4000, 4000), numeric=(), sequence=(TAGS,))
    first, second, _ = initial_table(spec, 8, False, seed=0).split(block_sizes(spec))
    other = initial_table(spec, 8, False, seed=1)[:4000]
    for block in (first, second):
        assert abs(block.mean().item()) < 2e-4
        assert abs(block.std().item() - 0.01) < 2e-4
    for x, y in ((first, second), (first, other)):
        assert abs(torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1]) < 0.02


def test_a_field_begins_alike_wherever_it_stands() -> None:
    def spec(*names: str) -> FeatureSpec:
        return FeatureSpec(categorical=names, num_ids=(5,) * len(names), numeric=(), sequence=())

    one = initial_table(spec("a", "b"), 3, False, seed=4)
    turned = initial_table(spec("b", "a"), 3, False, seed=4)
    assert torch.equal(one[5:], turned[:5])
    assert torch.equal(one[:5], turned[5:])


def test_a_longer_table_begins_with_the_shorter_one() -> None:
    def table(num_ids: int) -> torch.Tensor:
        spec = FeatureSpec(categorical=("a",), num_ids=(num_ids,), numeric=(), sequence=())
        return initial_table(spec, 5, True, seed=2**63 + 1)

    assert torch.equal(table(1003)[:7], table(7))
