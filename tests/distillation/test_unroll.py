"""The differentiable inner training, against plain training and finite differences."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from diet_ray.distillation.unroll import TABLE, CompactModel, inner_step
from diet_ray.models.catalogue import Candidate, build
from diet_ray.training.config import OptimizerConfig
from diet_ray.training.loop import click_loss
from tests.distillation.rows import FEATURES, random_rows

CANDIDATE = Candidate(name="small", architecture="dnn", embedding_size=4, hidden_sizes=(8,))


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_compact_logits_equal_the_model() -> None:
    model = build(CANDIDATE, FEATURES, 0).double()
    seen, unseen = random_rows(20, 1), random_rows(5, 2)
    compact = CompactModel(model, [seen, unseen])
    logits = compact.logits(compact.initial(), compact.compact(unseen), unseen)
    torch.testing.assert_close(logits, model(unseen))
    assert len(compact.rows) < len(model.table.weight)


def test_one_step_is_adam() -> None:
    """Against torch.optim.Adam, at an ε so small that its place under the root doesn't matter."""
    model = build(CANDIDATE, FEATURES, 0).double()
    rows = random_rows(30, 1)
    target, weight = torch.rand(30), torch.rand(30) + 0.5
    compact = CompactModel(model, [rows])
    config = OptimizerConfig(learning_rate=0.01, epsilon=1e-30)
    state = compact.initial()
    for _ in range(3):
        state = inner_step(
            compact,
            state,
            compact.compact(rows),
            rows,
            target,
            weight,
            config,
            differentiable=False,
        )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, eps=1e-30)
    for _ in range(3):
        optimizer.zero_grad()
        click_loss(model(rows), target, weight).backward()
        optimizer.step()
    table = model.table.weight.detach()[compact.rows]
    torch.testing.assert_close(state.parameters[TABLE], table, atol=1e-6, rtol=1e-5)
    for name, parameter in model.named_parameters():
        if name != TABLE:
            torch.testing.assert_close(
                state.parameters[name], parameter.detach(), atol=1e-6, rtol=1e-5
            )


def test_outer_gradient_equals_finite_differences() -> None:
    """The gradient of the loss after two inner steps with respect to a soft target."""
    model = build(CANDIDATE, FEATURES, 0).double()
    slots, real = random_rows(12, 1), random_rows(25, 2)
    compact = CompactModel(model, [slots, real])
    # A large ε keeps the root smooth on the scale of the differences.
    config = OptimizerConfig(learning_rate=0.05, epsilon=1e-2)
    weight = torch.ones(12)

    def loss_after(target: torch.Tensor) -> torch.Tensor:
        state = compact.initial()
        for _ in range(2):
            state = inner_step(
                compact, state, compact.compact(slots), slots, target, weight, config,
                differentiable=True,
            )  # fmt: skip
        return click_loss(compact.logits(state, compact.compact(real), real), real.label)

    target = torch.rand(12, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(loss_after(target), target)
    for i in (0, 5, 11):
        shift = torch.zeros(12)
        shift[i] = 1e-5
        difference = (loss_after(target + shift) - loss_after(target - shift)).item() / 2e-5
        assert gradient[i].item() == pytest.approx(difference, rel=1e-3, abs=1e-9)
    assert gradient.abs().max() > 0
