from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from diet_ray.data.batch import Batch
from diet_ray.influence.factors import Entries, Factor, Gathered, Outer
from diet_ray.influence.gradients import RowGradients, inner_products, row_gradients
from diet_ray.influence.projection import project
from diet_ray.models.catalogue import ARCHITECTURES
from tests.influence.influence_model import TinyModel
from tests.influence.per_row import network

NUM_FEATURES = 70
"""More than one hash gives."""


def gradients_of(**factors: Factor) -> RowGradients:
    """Rows of residual 1 with the given factors."""
    num_rows = len(next(iter(factors.values())).squared_norm())
    ones = torch.ones(num_rows, dtype=torch.float64)
    return RowGradients(
        residual=ones,
        logit=ones,
        hidden=torch.empty(num_rows, 0),
        rows=torch.empty(num_rows, 0, dtype=torch.int64),
        embedding=None,
        factors=factors,
    )


def signs_of(factor: Factor, name: str = "weight") -> Tensor:
    """(B, K): the entries of the projection that rows with a gradient of one 1 pick out."""
    return project(gradients_of(**{name: factor}), NUM_FEATURES, seed=0) * NUM_FEATURES**0.5


def units(*shape: int) -> Tensor:
    """(n, *shape): a 1 at each of the n places in turn."""
    num = int(torch.tensor(shape).prod())
    return torch.eye(num, dtype=torch.float64).view(num, *shape)


OUTPUT, INPUT = units(6, 1).repeat_interleave(5, 0), units(5, 1).repeat(6, 1, 1)
EVERY_ENTRY = {
    "outer": Outer(OUTPUT.transpose(1, 2), INPUT.transpose(1, 2)),
    "entries": Entries(units(6, 5)),
    "gathered": Gathered(
        torch.arange(6).repeat_interleave(5)[:, None],
        torch.eye(5, dtype=torch.float64).repeat(6, 1)[:, None],
        6,
        (),
    ),
}


@pytest.mark.parametrize("kind", EVERY_ENTRY)
def test_every_entry_of_a_gradient_counts_with_one_or_minus_one(kind: str):
    signs = signs_of(EVERY_ENTRY[kind])
    assert_close(signs.abs(), torch.ones_like(signs))
    assert signs.mean().abs() < 0.1
    assert len({tuple(column) for column in signs.T.tolist()}) > 0.8 * NUM_FEATURES
    assert not torch.equal(signs, signs_of(EVERY_ENTRY[kind], "other"))


@pytest.mark.parametrize("kind", EVERY_ENTRY)
def test_features_are_the_signs_times_the_gradient(kind: str):
    g = torch.Generator().manual_seed(0)
    factor = {
        "outer": Outer(
            torch.randn(4, 3, 6, generator=g, dtype=torch.float64),
            torch.randn(4, 3, 5, generator=g, dtype=torch.float64),
        ),
        "entries": Entries(torch.randn(4, 6, 5, generator=g, dtype=torch.float64)),
        "gathered": Gathered(
            torch.randint(6, (4, 3), generator=g),
            torch.randn(4, 3, 5, generator=g, dtype=torch.float64),
            6,
            (0, 1, 2),
        ),
    }[kind]
    expected = factor.multiplied_out().flatten(1) @ signs_of(EVERY_ENTRY[kind])
    assert_close(signs_of(factor), expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_inner_products_survive_on_average(architecture: str, batch: Batch):
    gradients = row_gradients(network(architecture), batch, batch.label, "all")
    found = torch.zeros(len(batch), len(batch), dtype=torch.float64)
    num_seeds, num_features = 16, 1024
    for seed in range(num_seeds):
        features = project(gradients, num_features, seed)
        found += features @ features.T / num_seeds
    expected = inner_products(gradients, gradients)
    norms = expected.diagonal().sqrt()
    error = (found - expected) / (norms[:, None] * norms[None, :])
    # A product of two rank-one signs has an SD of at most 3 norms.
    sd = 3 / (num_seeds * num_features) ** 0.5
    assert error.abs().max() < 5 * sd
    assert abs(float(error.diagonal().mean())) < 2 * sd


def test_a_seed_says_all(model: TinyModel, batch: Batch):
    gradients = row_gradients(model, batch, batch.label, "all")
    first, again, other = (project(gradients, NUM_FEATURES, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    # The bits that any machine and any process gets.
    signs = signs_of(Entries(torch.eye(2, dtype=torch.float64)), "output.weight")
    words = ["".join("+" if sign > 0 else "-" for sign in row[:16]) for row in signs]
    assert words == ["+---+++++++--+-+", "-+-----++---++-+"]


def test_features_are_linear_in_the_residual(model: TinyModel, batch: Batch):
    gradients = row_gradients(model, batch, batch.label, "all")
    factor = torch.linspace(-2, 3, len(batch), dtype=torch.float64)
    scaled = replace(gradients, residual=gradients.residual * factor)
    expected = factor[:, None] * project(gradients, NUM_FEATURES, 0)
    assert_close(project(scaled, NUM_FEATURES, 0), expected)


def test_a_row_has_its_features_in_any_batch(model: TinyModel, batch: Batch):
    def features(rows: Batch) -> Tensor:
        return project(row_gradients(model, rows, rows.label, "all"), NUM_FEATURES, 0)

    parts = torch.cat([features(batch[i : i + 7]) for i in range(0, len(batch), 7)])
    assert_close(parts, features(batch), rtol=1e-12, atol=1e-14)
