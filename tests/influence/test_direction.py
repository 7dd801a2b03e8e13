from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from diet_ray.data.batch import Batch
from diet_ray.influence import direction
from diet_ray.influence.direction import (
    along,
    mean_gradient,
    preconditioner,
    scaled,
    weighted_squared_norm,
)
from diet_ray.influence.gradients import row_gradients
from diet_ray.models.catalogue import ARCHITECTURES
from tests.influence.influence_model import TinyModel, random_batch
from tests.influence.per_row import flat, network, reference


def inner_products(gradients: dict[str, Tensor], other: dict[str, Tensor]) -> Tensor:
    """(B,): of rows (B, *shape) with one vector, by parameter name."""
    return flat(gradients) @ torch.cat([other[name].flatten() for name in gradients])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_mean_gradient_is_that_of_the_mean_loss(
    architecture: str, monkeypatch: pytest.MonkeyPatch
):
    model, rows = network(architecture).eval(), random_batch(20, seed=3)
    logit = model(rows)
    loss = nn.functional.binary_cross_entropy_with_logits(logit, rows.label)
    expected = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
    model.train().requires_grad_(False)
    for batch_size in (20, 7):
        monkeypatch.setattr(direction, "_BATCH_SIZE", batch_size)
        found = mean_gradient(model, rows)
        for (name, _), value in zip(model.named_parameters(), expected, strict=True):
            if name == "table.weight":
                value = value.clone()
                value[list(model.table.block_starts)] = 0.0
            assert_close(found[name], value, rtol=1e-9, atol=1e-14, msg=name)
    assert model.training
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_along_a_blocks_gradient_are_as_autograd_says(architecture: str, batch: Batch):
    model, block = network(architecture), random_batch(12, seed=4)
    rows = reference(model, batch, batch.label)
    mean = {name: g.mean(0) for name, g in reference(model, block, block.label).items()}
    gradients = row_gradients(model, batch, batch.label, "all")
    found = along(gradients, mean_gradient(model, block))
    assert_close(found, inner_products(rows, mean), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_products_under_a_preconditioner_are_as_autograd_says(architecture: str, batch: Batch):
    model = network(architecture)
    rows = reference(model, batch, batch.label)
    g = torch.Generator().manual_seed(1)
    weight, other = (
        {n: torch.rand(p.shape, generator=g).double() for n, p in model.named_parameters()}
        for _ in range(2)
    )
    gradients = row_gradients(model, batch, batch.label, "all")
    squares = {name: value.square() for name, value in rows.items()}
    found = weighted_squared_norm(gradients, weight)
    assert_close(found, inner_products(squares, weight), rtol=1e-6, atol=1e-12)
    product = {name: value * other[name] for name, value in weight.items()}
    assert_close(
        along(gradients, scaled(other, weight)),
        inner_products(rows, product),
        rtol=1e-6,
        atol=1e-12,
    )


def test_padding_gets_nothing_of_a_direction(model: TinyModel):
    rows = random_batch(30, seed=5)
    assert (rows.sequence == 0).any()
    padding = list(model.table.block_starts)
    assert not mean_gradient(model, rows)["table.weight"][padding].any()
    gradients = row_gradients(model, rows, rows.label, "all")
    everywhere = {n: torch.ones_like(p) for n, p in model.named_parameters()}
    elsewhere = {n: p.clone() for n, p in everywhere.items()}
    elsewhere["table.weight"][padding] = 0.0
    for function in (along, weighted_squared_norm):
        assert torch.equal(function(gradients, everywhere), function(gradients, elsewhere))


def test_the_preconditioner_by_hand():
    moments = {"a": torch.tensor([0.0, 4.0, 16.0, 0.04]), "never": torch.zeros(2, 3)}
    found = preconditioner(moments)
    # 1 % of the root of (4 + 16 + 0.04) / 3, over the weights that were moved.
    epsilon = 0.01 * (20.04 / 3) ** 0.5
    expected = [0.0, 1 / (2 + epsilon), 1 / (4 + epsilon), 1 / (0.2 + epsilon)]
    assert_close(found["a"], torch.tensor(expected))
    assert torch.equal(found["never"], torch.zeros(2, 3))


def test_a_preconditioner_bounds_what_was_hardly_ever_moved():
    found = preconditioner({"a": torch.tensor([1.0, 1e-30])})["a"]
    assert found[1] < 200 * found[0]
