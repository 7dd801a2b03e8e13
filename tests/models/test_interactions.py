"""Interactions against hand-computed values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from diet_ray.data.batch import FeatureSpec
from diet_ray.models.catalogue import build
from diet_ray.models.fibinet import SqueezeExcitation
from diet_ray.models.final import FactorizedInteraction, FieldwiseGate
from diet_ray.models.interactions import (
    BilinearFusion,
    BilinearPairs,
    CrossLayer,
    FieldShares,
    GatedCrossLayer,
    MaskedCrossLayer,
    MatrixCrossLayer,
    bi_interaction,
    pairwise_products,
    pairwise_vectors,
)
from diet_ray.models.xdeepfm import CompressedInteractions
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


def test_pairwise_vectors_by_hand() -> None:
    assert pairwise_vectors(FIELDS).tolist() == [[[3.0, -2.0], [0.5, 8.0], [1.5, -4.0]]]
    assert pairwise_vectors(FIELDS[:, :1]).shape == (1, 0, 2)


def test_bilinear_pairs_by_hand() -> None:
    pairs, double = BilinearPairs(3, 2), 2.0 * torch.eye(2)
    turn = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    # The matrices of (1, 2) and (1, 3) stand below each other; then that of (2, 3).
    first = torch.cat([double, turn])
    set_parameters(pairs, matrices__0__weight=first, matrices__1__weight=torch.eye(2))
    assert pairs(FIELDS).tolist() == [[[6.0, -4.0], [1.0, 4.0], [1.5, -4.0]]]
    assert BilinearPairs(1, 2)(FIELDS[:, :1]).shape == (1, 0, 2)


def test_a_gated_cross_layer_by_hand() -> None:
    gated, x_0, x = GatedCrossLayer(2), torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]])
    weight, bias = torch.tensor([[1.0, 1.0], [0.0, 2.0]]), torch.tensor([0.1, 0.2])
    set_parameters(gated, linear__weight=weight, linear__bias=bias, gate__weight=torch.zeros(2, 2))
    # Half of what a matrix cross layer adds.
    assert gated(x_0, x).tolist() == [pytest.approx([1.05 + 3.0, -1.8 - 1.0])]


def test_a_masked_cross_layer_by_hand() -> None:
    layer = MaskedCrossLayer(3)
    set_parameters(
        layer,
        weight__weight=torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]),
        norm__weight=torch.ones(2),
        norm__bias=torch.zeros(2),
        bias=torch.tensor([0.1, 0.2, 0.3]),
    )
    x_0, x = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[4.0, 1.0, 1.0]])
    # c = (4, 2), normalised (1, −1), masked (4, 0), of which one entry finds a place.
    expected = [4.1 + 4.0, 2.0 * 2.2 + 1.0, 3.0 * 4.3 + 1.0]
    torch.testing.assert_close(layer(x_0, x), torch.tensor([expected]), rtol=1e-4, atol=0)


def test_shares_of_fields_sum_to_their_number_and_begin_even() -> None:
    shares = FieldShares(3)
    assert torch.equal(shares(FIELDS), FIELDS)
    set_parameters(shares, choice=torch.tensor([1.0, 2.0, 3.0]).log())
    expected = FIELDS * torch.tensor([0.5, 1.0, 1.5])[:, None]
    torch.testing.assert_close(shares(FIELDS), expected)


def test_squeeze_and_excitation_by_hand() -> None:
    layer = SqueezeExcitation(3)
    # Means (1.5, 1, 2.25) reduce to their sum, 4.75.
    set_parameters(
        layer,
        excitation__0__weight=torch.ones(1, 3),
        excitation__2__weight=torch.tensor([[0.0], [-1.0], [1.0]]) * math.log(3.0) / 4.75,
    )
    expected = FIELDS * torch.tensor([0.5, 0.25, 0.75])[:, None]
    torch.testing.assert_close(layer(FIELDS), expected)


def test_factorised_interactions_by_hand() -> None:
    layer = FactorizedInteraction(2, 3)
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    set_parameters(layer, linear__weight=weight, linear__bias=torch.zeros(3))
    # s = (2, 5), t = (7).
    assert layer(torch.tensor([[2.0, 5.0]])).tolist() == [[2.0, 5.0, 14.0]]


def test_a_fieldwise_gate_begins_open() -> None:
    assert torch.equal(FieldwiseGate(3)(FIELDS), torch.cat([FIELDS, FIELDS], dim=1))


def test_the_first_compressed_layer_weighs_all_products_of_fields() -> None:
    layer = CompressedInteractions(3, num_layers=1)
    weight = torch.zeros(16, 9)
    weight[0, 1] = 1.0  # e_1 ∘ e_2 = (3, −2)
    weight[1, 8] = 2.0  # e_3 ∘ e_3 = (0.25, 16)
    set_parameters(layer, maps__0__weight=weight)
    assert layer(FIELDS)[0, :3].tolist() == [1.0, 32.5, 0.0]
