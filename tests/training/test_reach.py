"""Steps of the table stay within reach: by hand, and with every architecture."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from diet_ray.models.base import TABLE_WEIGHT
from diet_ray.models.catalogue import ARCHITECTURES
from diet_ray.training.config import OptimizerConfig
from diet_ray.training.drift import DriftMatch
from diet_ray.training.loop import train_step
from diet_ray.training.optimizer import ClickOptimizer
from diet_ray.training.reach import Reach, bounded, reach_of
from tests.models.rows import large_model, random_batch


def test_the_way_to_a_target_by_hand() -> None:
    # σ(0) = ½ and σ'(0) = ¼: a target of ¾ is one logit away, to first order.
    logit = torch.tensor([[0.0], [0.0]])
    found = reach_of(logit, torch.tensor([0.75, 0.5]), torch.tensor([0.2, 0.8]))
    assert_close(found.way, torch.tensor([[1.0], [0.0]]))
    assert_close(found.pull, torch.tensor([[-0.05], [0.0]]))


def test_a_step_by_hand() -> None:
    """Two rows of one position each: the first gathered entry 0, the second entry 1."""
    pull = torch.tensor([[-0.5], [0.5]])
    # ∂z/∂e is 2 for both, so moves of 3 and −1 change the logits by 6 and −2.
    gradient = 2.0 * pull.view(2, 1, 1, 1)
    move = torch.tensor([[[3.0]], [[-1.0]]])
    reach = Reach(pull, torch.tensor([[1.5], [8.0]]))
    found = bounded(move, torch.tensor([0, 1]), gradient, reach)
    assert_close(found.flatten(), torch.tensor([3.0 * 1.5 / 6.0, -1.0]))


def test_a_shared_row_of_the_table_goes_the_mean_of_what_is_asked() -> None:
    pull = torch.tensor([[-0.5], [-0.5]])
    gradient = 2.0 * pull.view(2, 1, 1, 1)
    # Both change by 6: one asks for a quarter, the other for all of it.
    reach = Reach(pull, torch.tensor([[1.5], [7.0]]))
    found = bounded(torch.tensor([[[3.0]]]), torch.tensor([0, 0]), gradient, reach)
    assert_close(found.flatten(), torch.tensor([3.0 * (0.25 + 1.0) / 2.0]))


def test_a_row_at_its_target_asks_for_nothing() -> None:
    reach = Reach(torch.tensor([[0.0]]), torch.tensor([[0.0]]))
    found = bounded(torch.ones(1, 1, 2), torch.tensor([0]), torch.zeros(1, 1, 1, 2), reach)
    assert torch.equal(found, torch.zeros(1, 1, 2))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("seed", [2, 4])
def test_a_row_alone_stops_at_its_target(architecture: str, seed: int) -> None:
    """With dense weights that stay, and a target that lies close to where the row is."""
    rows = random_batch(1, seed=seed)

    def change(way: float, is_bounded: bool) -> float:
        model = large_model(architecture).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.mul_(0.5).requires_grad_(name == TABLE_WEIGHT)
        start = model(rows).detach()
        target = torch.sigmoid(start + way)
        optimizer = ClickOptimizer(model, OptimizerConfig(learning_rate=0.05))
        drift = DriftMatch(1.0, 0.0, 0.0, is_bounded)
        train_step(model, optimizer, rows, target, drift=drift)
        return float((model(rows) - start).detach())

    # Adam's first step is as long as the rate, wherever the target is.
    way = min(abs(change(1e-4, False)) / 20, 1e-4)
    assert way > 1e-7
    assert change(way, True) == pytest.approx(way, rel=0.02)
