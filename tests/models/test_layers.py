"""Parts against hand-computed values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diet_ray.data.batch import FeatureSpec
from diet_ray.models.catalogue import build
from diet_ray.models.layers import (
    BilinearFusion,
    CrossLayer,
    Dropout,
    MatrixCrossLayer,
    Output,
    SelfAttention,
    bi_interaction,
    mean_pool,
    mlp,
    pairwise_products,
)
from tests.models.rows import candidate, random_batch

FIELDS = torch.tensor([[[1.0, 2.0], [3.0, -1.0], [0.5, 4.0]]])


def set_parameters(module: torch.nn.Module, **values: Tensor) -> None:
    module.load_state_dict({name.replace("__", "."): value for name, value in values.items()})


def test_bi_interaction_by_hand() -> None:
    # 1·3 + 1·0.5 + 3·0.5 = 5 and 2·(−1) + 2·4 + (−1)·4 = 2.
    assert bi_interaction(FIELDS).tolist() == [[5.0, 2.0]]


def test_pairwise_products_by_hand() -> None:
    # ⟨e_1, e_2⟩ = 3 − 2, ⟨e_1, e_3⟩ = 0.5 + 8, ⟨e_2, e_3⟩ = 1.5 − 4.
    assert pairwise_products(FIELDS).tolist() == [[1.0, 8.5, -2.5]]
    assert pairwise_products(FIELDS[:, :1]).shape == (1, 0)


def test_a_factorisation_machine_by_hand() -> None:
    spec = FeatureSpec(categorical=("a", "b"), num_ids=(4, 4), numeric=("x",), sequence=())
    model = build(candidate("fm", embedding_size=2), spec, seed=0)
    with torch.no_grad():
        model.table.weight[2] = torch.tensor([1.0, 2.0, 0.1])  # a = 2
        model.table.weight[7] = torch.tensor([3.0, -1.0, 0.2])  # b = 3
        model.get_parameter("numeric.vectors").copy_(torch.tensor([[1.0, 8.0]]))
        model.output.weight.fill_(2.0)
        model.output.bias.fill_(0.05)
    batch = random_batch(1, spec)
    batch.categorical[0] = torch.tensor([2, 3])
    batch.numeric[0, 0] = 0.5
    # 0.05 + (0.1 + 0.2) + 2·0.5 + (1 + 8.5 − 2.5), as in the products above
    assert model(batch).item() == pytest.approx(8.35)


def test_cross_layers_by_hand() -> None:
    x_0, x = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]])
    vector, matrix = CrossLayer(2), MatrixCrossLayer(2)
    bias = torch.tensor([0.1, 0.2])
    set_parameters(vector, weight__weight=torch.tensor([[2.0, 1.0]]), bias=bias)
    # w · x = 5
    assert vector(x_0, x).tolist() == [pytest.approx([8.1, 9.2])]
    weight = torch.tensor([[1.0, 1.0], [0.0, 2.0]])
    set_parameters(matrix, linear__weight=weight, linear__bias=bias)
    # W x + b = (2.1, −1.8)
    assert matrix(x_0, x).tolist() == [pytest.approx([5.1, -4.6])]


def test_bilinear_fusion_by_hand() -> None:
    fusion = BilinearFusion(3, num_heads=2)
    first, second = torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([[3.0]])
    set_parameters(fusion, heads__0__weight=first, heads__1__weight=second)
    x, y = torch.tensor([[1.0, -1.0, 2.0]]), torch.tensor([[2.0, 1.0, 0.5]])
    # (1, −1) · (4, 1) + 2 · 3 · 0.5
    assert fusion(x, y).tolist() == [6.0]
    assert len(BilinearFusion(3, num_heads=8).heads) == 3


def test_attention_to_one_field_is_that_field() -> None:
    attention = SelfAttention(4, head_size=3, num_heads=2)
    field = torch.randn(5, 1, 4)
    expected = torch.relu(attention.value(field) + attention.residual(field))
    torch.testing.assert_close(attention(field), expected)


def test_mean_pool_counts_what_is_present() -> None:
    items = torch.tensor([[[[1.0], [2.0], [6.0]], [[4.0], [5.0], [9.0]]]])
    present = torch.tensor([[[True, True, False], [False, False, False]]])
    assert mean_pool(items, present).tolist() == [[[1.5], [0.0]]]


def test_the_output_layer_begins_with_even_odds() -> None:
    assert Output(7).bias.item() == 0.0
    assert Output(0)(torch.zeros(3, 0)).tolist() == [0.0, 0.0, 0.0]


def test_an_mlp_has_dropout_only_if_asked() -> None:
    kinds = [type(m).__name__ for m in mlp(3, (4, 5), 0.0)]
    assert kinds == ["Linear", "ReLU"] * 2
    assert [type(m).__name__ for m in mlp(3, (4,), 0.1)] == ["Linear", "ReLU", "Dropout"]


def test_dropout_keeps_the_mean_and_is_off_in_evaluation() -> None:
    dropout, x = Dropout(0.25), torch.ones(20_000)
    dropped = dropout(x)
    assert dropped.unique().tolist() == [0.0, pytest.approx(1 / 0.75)]
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.02)
    assert dropout.eval()(x) is x


def test_dropout_goes_on_where_its_state_left_it() -> None:
    torch.manual_seed(0)
    first, second, x = Dropout(0.5), Dropout(0.5), torch.ones(200)
    assert not torch.equal(first(x), second(x))
    before = torch.get_rng_state()
    second.load_state_dict(first.state_dict())
    masks = [first(x) for _ in range(3)]
    assert not torch.equal(masks[0], masks[1])
    assert all(torch.equal(second(x), mask) for mask in masks)
    assert torch.equal(torch.get_rng_state(), before)
