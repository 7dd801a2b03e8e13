"""No parameter of any model is left out: every closed form against autograd, row by row."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.testing import assert_close

from diet_ray.data.batch import Batch
from diet_ray.errors import ConfigError
from diet_ray.influence import closed_forms
from diet_ray.influence.config import Score
from diet_ray.influence.coverage import find_coverage
from diet_ray.influence.gradients import (
    inner_products,
    row_gradients,
    squared_norm,
)
from diet_ray.influence.scores import influence
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.catalogue import ARCHITECTURES, Candidate, build
from diet_ray.models.histories import Positions
from diet_ray.models.interactions import CrossLayer, FieldGate, FieldShares, MaskedCrossLayer
from diet_ray.models.layers import NumericFields, Output
from tests.influence.influence_model import FEATURES, random_batch
from tests.influence.per_row import (
    flat,
    network,
    random_weights,
    reference,
    with_moderate_logits,
)


@pytest.fixture
def target(batch: Batch) -> Tensor:
    """Soft targets, some outside [0, 1]."""
    return torch.linspace(-0.2, 1.3, len(batch), dtype=torch.float64)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_parameter_of_every_model_has_its_gradient(
    architecture: str, batch: Batch, target: Tensor
):
    model = network(architecture)
    expected = reference(model, batch, target)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradients = row_gradients(model, batch, target, "all")
    for name, value in expected.items():
        if not value.numel():
            continue
        found = gradients.factors[name]
        residual = gradients.residual.view(-1, *[1] * (value.dim() - 1))
        assert_close(residual * found.multiplied_out(), value, rtol=1e-6, atol=1e-12, msg=name)
        squares = gradients.residual.square() * found.squared_norm()
        assert_close(squares, value.flatten(1).square().sum(1), rtol=1e-6, atol=1e-14, msg=name)
    assert_close(squared_norm(gradients), flat(expected).square().sum(1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fields_may_all_be_categorical(architecture: str):
    # LR and FM then have a last layer without inputs, DIN no history to attend to.
    features = replace(FEATURES, numeric=(), sequence=())
    candidate = Candidate(name="c", architecture=architecture, hidden_sizes=(6, 3))
    rows = random_batch(12, seed=2)
    empty = rows.sequence[:, :0, :0]
    batch = Batch(rows.categorical, rows.numeric[:, :0], empty, rows.label)
    model = with_moderate_logits(random_weights(build(candidate, features, seed=3)), batch)
    expected = flat(reference(model, batch, batch.label)).square().sum(1)
    found = squared_norm(row_gradients(model, batch, batch.label, "all"))
    assert_close(found, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("score", ["error", "last_layer", "embedding", "gradient", "full"])
def test_scores_order_rows_as_autograd_does(
    architecture: str, score: Score, batch: Batch, target: Tensor
):
    model = network(architecture)
    expected = reference(model, batch, target)
    parts = {
        "last_layer": ("output.weight", "output.bias"),
        "embedding": ("table.weight",),
        "gradient": ("output.weight", "output.bias", "table.weight"),
        "full": tuple(expected),
    }
    if score == "error":
        norm = (torch.sigmoid(model.eval()(batch).detach()) - target).abs()
    else:
        norm = flat({name: expected[name] for name in parts[score]}).norm(dim=1)
    gradients = row_gradients(model, batch, target, "all")
    found = influence(model.table, gradients, score)
    assert_close(found, norm, rtol=1e-6, atol=1e-12)
    assert spearmanr(found, norm).statistic >= 0.999


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_inner_products_need_no_gradient(architecture: str, batch: Batch, target: Tensor):
    model = network(architecture)
    others = random_batch(6, seed=5)
    expected = flat(reference(model, batch, target))
    expected_others = flat(reference(model, others, others.label))
    found = inner_products(
        row_gradients(model, batch, target, "all"),
        row_gradients(model, others, others.label, "all"),
    )
    assert_close(found, expected @ expected_others.T, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_directions_and_weights_are_those_of_the_gradient(
    architecture: str, batch: Batch, target: Tensor
):
    model = network(architecture)
    expected = reference(model, batch, target)
    gradients = row_gradients(model, batch, target, "all")
    g = torch.Generator().manual_seed(1)
    for name, factor in gradients.factors.items():
        shape = expected[name].shape[1:]
        direction = torch.randn(shape, generator=g, dtype=torch.float64)
        weight = torch.rand(shape, generator=g, dtype=torch.float64)
        along = (expected[name] * direction).flatten(1).sum(1)
        weighted = (expected[name].square() * weight).flatten(1).sum(1)
        residual = gradients.residual
        assert_close(residual * factor.along(direction), along, rtol=1e-6, atol=1e-10, msg=name)
        found = residual.square() * factor.weighted_squared_norm(weight)
        assert_close(found, weighted, rtol=1e-6, atol=1e-12, msg=name)


@pytest.fixture
def without_form(request: pytest.FixtureRequest) -> Iterator[type[nn.Module]]:
    """Takes one closed form away."""
    layer: type[nn.Module] = request.param
    form = closed_forms._CLOSED_FORMS.pop(layer)
    yield layer
    closed_forms._CLOSED_FORMS[layer] = form


@pytest.mark.parametrize(
    ("without_form", "architecture", "lost"),
    [
        (Output, "dnn", "output.weight"),
        (nn.Linear, "dcnv2", "cross.0.linear.weight"),
        (CrossLayer, "dcn", "cross.0.bias"),
        (FieldGate, "finalmlp", "streams.0.0.choice"),
        (NumericFields, "pnn", "numeric.vectors"),
        (MaskedCrossLayer, "dcnv3", "exponential.0.bias"),
        (FieldShares, "edcn", "levels.0.cross_shares.choice"),
        (Positions, "bst", "interests.0.positions.weight"),
        (Positions, "hstu", "interests.0.layers.1.bias.weight"),
        (nn.LayerNorm, "masknet", "blocks.0.hidden.1.weight"),
    ],
    indirect=["without_form"],
)
def test_a_missing_closed_form_is_noticed_and_made_up_for(
    without_form: type[nn.Module], architecture: str, lost: str, batch: Batch, target: Tensor
):
    model = network(architecture)
    with pytest.warns(UserWarning, match=lost):
        gradients = row_gradients(model, batch, target, "all")
    expected = flat(reference(model, batch, target)).square().sum(1)
    assert_close(squared_norm(gradients), expected, rtol=1e-6, atol=0)


class Repeated(Recommender):
    """One layer applied to the fields and then again to what it gave; norms; a tied weight."""

    def __init__(self) -> None:
        super().__init__(FEATURES, 4)
        self.twice = nn.Linear(4, 4)
        self.layer_norm = nn.LayerNorm(4)
        self.rms_norm = nn.RMSNorm(4)
        self.batch_norm = nn.BatchNorm1d(4)
        self.prelu = nn.PReLU(4)
        self.slope = nn.PReLU()
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.twice.weight
        self.tags = nn.Embedding(9, 4, padding_idx=0)
        self.output = Output(4)

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        x = self.rms_norm(self.layer_norm(self.twice(self.twice(gathered)))).relu_()
        x = self.slope(self.prelu(self.batch_norm(self.tied(x.sum(1)))))
        tags = torch.cat([batch.sequence[:, 0], batch.categorical[:, 1:]], dim=1)
        hidden = torch.tanh(x + self.tags(tags).sum(1) * gathered[:, 0])
        return HeadOutput(self.output(hidden), hidden)


def test_shared_repeated_and_tied_layers_norms_and_embeddings(batch: Batch, target: Tensor):
    model = random_weights(Repeated())
    assert isinstance(model, Repeated)
    assert model.batch_norm.running_mean is not None
    model.batch_norm.running_mean.normal_(generator=torch.Generator().manual_seed(2))
    expected = flat(reference(model, batch, target))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradients = row_gradients(model, batch, target, "all")
        others = row_gradients(model, batch[:3], target[:3], "all")
    assert_close(squared_norm(gradients), expected.square().sum(1), rtol=1e-6, atol=0)
    assert_close(
        inner_products(gradients, others), expected @ expected[:3].T, rtol=1e-6, atol=1e-10
    )


class Foreign(Recommender):
    """Attention, a recurrent layer and weights used behind their layer's back."""

    def __init__(self) -> None:
        super().__init__(FEATURES, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.gate = nn.Parameter(torch.ones(4))
        self.secret = nn.Linear(4, 4)
        self.transposed = nn.Linear(4, 4)
        self.output = Output(4)

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        x, _ = self.attention(gathered, gathered, gathered, need_weights=False)
        x = self.transposed(x.transpose(0, 1).flatten(0, 1)).view(x.shape[1], x.shape[0], 4)
        x = torch.tanh(self.secret(x.sum(0)) @ self.secret.weight) * self.gate
        return HeadOutput(self.output(x), x)


def test_what_no_closed_form_covers_is_named_and_still_exact(batch: Batch, target: Tensor):
    model = random_weights(Foreign())
    with pytest.warns(UserWarning, match="no closed form covers") as caught:
        gradients = row_gradients(model, batch, target, "all")
    text = str(caught[0].message)
    assert all(
        name in text
        for name in ("attention.in_proj_weight", "gate", "secret.weight", "transposed.weight")
    )
    assert "output" not in text
    expected = flat(reference(model, batch, target)).square().sum(1)
    assert_close(squared_norm(gradients), expected, rtol=1e-6, atol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row_gradients(model, batch, target, "all")


class Tied(Recommender):
    def __init__(self) -> None:
        super().__init__(FEATURES, 4)
        self.output = Output(4)

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        hidden = gathered.sum(1) * self.table.weight.sum(0)
        return HeadOutput(self.output(hidden), hidden)


def test_a_head_that_reads_the_table_is_refused(batch: Batch):
    with pytest.raises(ConfigError, match="Tied: its head reads `table"):
        find_coverage(random_weights(Tied()), batch)
