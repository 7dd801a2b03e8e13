"""Parts against hand-computed values."""

from __future__ import annotations

import pytest
import torch

from diet_ray.models.layers import Dropout, Output, mean_pool, mlp


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
