from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.influence.gradients import (
    embedding_squared_norm,
    is_padding,
    last_layer_squared_norm,
    row_gradients,
)
from diet_ray.influence.scores import influence
from diet_ray.models.base import HeadOutput
from diet_ray.models.catalogue import ARCHITECTURES, Candidate, build
from tests.influence.influence_model import FEATURES, TinyModel, autograd_gradients


@pytest.fixture
def target(batch: Batch) -> Tensor:
    """Soft targets, some outside [0, 1]."""
    return torch.linspace(-0.2, 1.3, len(batch), dtype=torch.float64)


def close(actual: Tensor, expected: Tensor) -> None:
    assert_close(actual, expected, rtol=1e-6, atol=1e-12)


def test_closed_forms_equal_per_row_autograd(model: TinyModel, batch: Batch, target: Tensor):
    reference = autograd_gradients(model, batch, target)
    last, table = reference[:, :6], reference[:, 6:]
    gradients = row_gradients(model, batch, target)
    close(gradients.last_layer, last)
    close(last_layer_squared_norm(gradients), last.square().sum(1))
    close(embedding_squared_norm(model.table, gradients), table.square().sum(1))


def test_repeats_are_summed_before_the_norm(model: TinyModel, batch: Batch, target: Tensor):
    # Row 0 repeats its item five times: squares summed apart would be another number.
    gradients = row_gradients(model, batch, target)
    assert gradients.embedding is not None
    apart = gradients.residual.square() * gradients.embedding.square().sum((1, 2))
    together = embedding_squared_norm(model.table, gradients)
    assert not torch.allclose(apart[0], together[0], rtol=1e-2)


def test_padding_gets_no_gradient(model: TinyModel, batch: Batch, target: Tensor):
    gradients = row_gradients(model, batch, target)
    assert gradients.embedding is not None
    history = gradients.embedding[2, 2:]
    assert (history == 0).all()
    # It would get one otherwise: the head reads it.
    assert (gradients.embedding[0, 2:6] != 0).any()


class Summed(TinyModel):
    """Its logit has one and the same gradient at every embedding: a single number in memory."""

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        hidden = batch.numeric.expand(-1, 5)
        return HeadOutput(self.output(hidden)[:, 0] + gathered.sum((1, 2)), hidden)


def test_padding_takes_nothing_from_its_neighbours(batch: Batch, target: Tensor):
    summed = Summed(FEATURES).double()
    gradients = row_gradients(summed, batch, target)
    padding = is_padding(summed.table, summed.table.rows(batch))
    assert gradients.embedding is not None
    assert torch.equal(gradients.embedding[~padding].unique(), torch.ones(1).double())
    assert torch.equal(gradients.embedding[padding].unique(), torch.zeros(1).double())


def test_scores_are_the_norms_of_their_parts(model: TinyModel, batch: Batch, target: Tensor):
    reference = autograd_gradients(model, batch, target)
    gradients = row_gradients(model, batch, target)
    probability = torch.sigmoid(model(batch).detach())
    close(influence(model.table, gradients, "error"), (probability - target).abs())
    close(influence(model.table, gradients, "last_layer"), reference[:, :6].norm(dim=1))
    close(influence(model.table, gradients, "embedding"), reference[:, 6:].norm(dim=1))
    close(influence(model.table, gradients, "gradient"), reference.norm(dim=1))


def test_a_forward_pass_is_enough_for_error_and_last_layer(
    model: TinyModel, batch: Batch, target: Tensor
):
    forward = row_gradients(model, batch, target, "last_layer")
    assert forward.embedding is None
    full = row_gradients(model, batch, target)
    for score in ("error", "last_layer"):
        expected = influence(model.table, full, score)
        assert torch.equal(influence(model.table, forward, score), expected)


def test_the_model_is_left_as_it_was(model: TinyModel, batch: Batch, target: Tensor):
    model.train()
    row_gradients(model, batch, target)
    assert model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    frozen = model.requires_grad_(False)
    assert row_gradients(frozen, batch, target).embedding is not None


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_agrees_with_autograd(
    architecture: str, model: TinyModel, batch: Batch, target: Tensor
):
    candidate = Candidate(
        name="c", architecture=architecture, embedding_size=4, hidden_sizes=(6, 3), dropout=0.5
    )
    network = build(candidate, model.features, seed=3).double().eval()
    with torch.no_grad():
        # Beyond the tiny first values, so that no part vanishes in the sum.
        network.table.weight.mul_(30.0)
        for parameter in network.output.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(0))
    reference = autograd_gradients(network, batch, target)
    network.train()
    gradients = row_gradients(network, batch, target)
    norm = last_layer_squared_norm(gradients) + embedding_squared_norm(network.table, gradients)
    close(norm, reference.square().sum(1))


def test_a_log_of_numeric_fields_alone():
    features = FeatureSpec(categorical=(), num_ids=(), numeric=("a", "b"), sequence=())
    network = build(Candidate(name="lr", architecture="lr"), features, seed=0)
    batch = Batch(
        torch.zeros(5, 0, dtype=torch.int32),
        torch.randn(5, 2),
        torch.zeros(5, 0, 0, dtype=torch.int32),
        torch.ones(5),
    )
    gradients = row_gradients(network, batch, batch.label)
    assert (embedding_squared_norm(network.table, gradients) == 0).all()
