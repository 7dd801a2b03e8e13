"""Readers of histories against hand-computed values and torch's own layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import diet_ray.models.sim as search
from diet_ray.models.catalogue import build
from diet_ray.models.histories import (
    GatedRecurrentUnit,
    Interests,
    Positions,
    ages,
    with_target,
)
from diet_ray.models.layers import pool
from tests.models.reference import FORMULAS, Row
from tests.models.rows import FEATURES, candidate, large_model, random_batch, replace

READERS = ("din", "dien", "sim", "bst", "hstu", "transact")
PRESENT = torch.tensor([[True, True, True, False], [True, False, False, False], [False] * 4])


def test_the_latest_item_is_of_age_one() -> None:
    assert ages(PRESENT).tolist() == [[3, 2, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_a_target_is_the_last_item_of_age_zero() -> None:
    items, target = torch.randn(3, 4, 2), torch.randn(3, 2)
    places, age, present = with_target(items, target, PRESENT)
    assert torch.equal(places[:, -1], target)
    assert age[0].tolist() == [3, 2, 1, 0, 0]
    assert present[:, -1].all()
    assert present[0].tolist() == [True, True, True, False, True]


def test_positions_are_looked_up() -> None:
    positions = Positions(3, 2)
    found = positions(torch.tensor([[2, 0, 2]]))
    assert torch.equal(found[0], positions.weight[[2, 0, 2]])


class _Mean(nn.Module):
    """A reader that pools, twice."""

    def forward(self, items: Tensor, target: Tensor, present: Tensor) -> Tensor:
        share = present.double() / present.double().sum(dim=1, keepdim=True).clamp_min(1.0)
        mean = (items * share.unsqueeze(2)).sum(dim=1)
        return torch.cat([mean, mean - target], dim=1)


def test_interests_are_pooled_fields_with_what_readers_read() -> None:
    batch = random_batch(5)
    gathered = torch.randn(5, 2 + 2 * 4, 3, dtype=torch.float64)
    pooled = pool(gathered, batch)
    found = Interests(FEATURES, lambda _: _Mean())(gathered, batch)
    user, item, watched, tags = pooled.unbind(1)
    expected = torch.stack([user, item, watched, watched - item, tags], dim=1)
    torch.testing.assert_close(found, expected)


def test_a_gated_recurrent_unit_is_torchs() -> None:
    torch.manual_seed(0)
    own, theirs = GatedRecurrentUnit(3), nn.GRU(3, 3, batch_first=True)
    # Torch has reset before update, and calls 1 − u what is u here.
    update, reset, new = own.input.weight.chunk(3)
    from_update, from_reset, from_new = own.recurrent.weight.chunk(3)
    bias_update, bias_reset, bias_new = own.input.bias.chunk(3)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(torch.cat([reset, -update, new]))
        theirs.weight_hh_l0.copy_(torch.cat([from_reset, -from_update, from_new]))
        theirs.bias_ih_l0.copy_(torch.cat([bias_reset, -bias_update, bias_new]))
        theirs.bias_hh_l0.zero_()
    x = torch.randn(2, 5, 3)
    expected, _ = theirs(x)
    torch.testing.assert_close(own(x, torch.ones(2, 5)), expected)
    # A step without weight is no step.
    weight = torch.tensor([[1.0, 1.0, 0.0, 0.0, 1.0]]).expand(2, 5)
    without = own(x[:, [0, 1, 4]], torch.ones(2, 3))
    torch.testing.assert_close(own(x, weight)[:, [1, 3, 4]], without[:, [1, 1, 2]])


@pytest.mark.parametrize("num_found", [1, 2, 3])
def test_a_search_finds_the_most_relevant_items_alone(
    num_found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = large_model("sim"), random_batch(12, seed=13)
    everything = model(batch)
    monkeypatch.setattr(search, "NUM_FOUND", num_found)
    found = model(batch)
    expected = torch.stack([FORMULAS["sim"](Row(model, batch, i)) for i in range(12)])
    torch.testing.assert_close(found, expected.double(), rtol=1e-10, atol=1e-10)
    num_distinct = torch.tensor([len(set(h[h > 0].tolist())) for h in batch.sequence[:, 0]])
    assert (found != everything)[num_distinct > num_found].any()
    torch.testing.assert_close(found[num_distinct <= 1], everything[num_distinct <= 1])


@pytest.mark.parametrize("name", READERS)
def test_an_empty_history_is_finite_and_so_is_its_gradient(name: str) -> None:
    model, batch = build(candidate(name), FEATURES, seed=0), random_batch(3)
    logit = model(replace(batch, sequence=torch.zeros_like(batch.sequence)))
    gradients = torch.autograd.grad(logit.sum(), list(model.parameters()))
    assert logit.isfinite().all()
    assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("name", READERS)
def test_what_an_item_says_depends_on_the_target(name: str) -> None:
    interests = next(m for m in large_model(name).modules() if isinstance(m, Interests))
    (reader,) = interests
    generator = torch.Generator().manual_seed(0)
    items = torch.randn(2, 4, 3, generator=generator).double()
    targets = torch.randn(2, 3, generator=generator).double()

    def effect(target: Tensor) -> Tensor:
        one, other = (reader(i[None], target[None], PRESENT[:1]) for i in items)
        return one - other

    assert (effect(targets[0]) - effect(targets[1])).abs().max() > 1e-3
