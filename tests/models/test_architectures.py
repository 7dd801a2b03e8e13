"""What holds for every architecture of the catalogue."""

from __future__ import annotations

import pytest
import torch

from diet_ray.data.batch import FeatureSpec, SequenceSpec
from diet_ray.models.catalogue import ARCHITECTURES, build
from diet_ray.training.config import OptimizerConfig
from diet_ray.training.loop import click_loss, fit, predict, train_step
from diet_ray.training.metrics import auc
from diet_ray.training.optimizer import ClickOptimizer
from tests.models.reference import FORMULAS, Row
from tests.models.rows import (
    FEATURES,
    candidate,
    features,
    large_model,
    random_batch,
    replace,
)

NAMES = tuple(ARCHITECTURES)
KINDS = ("categorical", "numeric", "sequence")
SPECS = [
    FEATURES,
    *(features(**{kind: False}) for kind in KINDS),
    *(features(**{kind: kind == only for kind in KINDS}) for only in KINDS),
]
ORDERED = ("dien", "bst", "hstu", "transact")
"""Architectures that read a history as a sequence, not as a set."""
every_architecture = pytest.mark.parametrize("name", NAMES)


def test_the_formulas_cover_the_catalogue() -> None:
    assert list(FORMULAS) == list(NAMES)


@every_architecture
@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.num_fields}-{len(s.sequence)}")
def test_logits_are_the_formulas(name: str, spec: FeatureSpec) -> None:
    model, batch = large_model(name, spec), random_batch(6, spec, seed=3)
    with torch.no_grad():
        logit, hidden = model.head(model.table.gather(model.table.rows(batch)), batch)
        expected = torch.stack([FORMULAS[name](Row(model, batch, i)) for i in range(6)])
    assert logit.shape == (6,)
    assert hidden.shape == (6, model.output.in_features)
    torch.testing.assert_close(logit, expected.double(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(model(batch), logit, rtol=0, atol=0)


@every_architecture
def test_other_numbers_of_layers_and_heads_follow_the_formula(name: str) -> None:
    # Five hidden units fall into three heads of 2, 2 and 1.
    model = large_model(name, num_cross_layers=3, num_heads=3, hidden_sizes=(5,))
    batch = random_batch(4, seed=4)
    expected = torch.stack([FORMULAS[name](Row(model, batch, i)) for i in range(4)])
    torch.testing.assert_close(model(batch), expected.double(), rtol=1e-10, atol=1e-10)


@every_architecture
@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.num_fields}-{len(s.sequence)}")
def test_hidden_is_the_gradient_of_the_logit_at_the_output_weights(
    name: str, spec: FeatureSpec
) -> None:
    model, batch = large_model(name, spec), random_batch(5, spec, seed=5)
    logit, hidden = model.head(model.table.gather(model.table.rows(batch)), batch)
    for i in range(5):
        weight, bias = torch.autograd.grad(
            logit[i], [model.output.weight, model.output.bias], retain_graph=True
        )
        torch.testing.assert_close(weight[0], hidden[i], rtol=1e-12, atol=1e-12)
        assert bias.item() == 1.0


@every_architecture
def test_gradient_reaches_every_parameter(name: str) -> None:
    # Wide enough that no layer has only dead units by chance.
    model = build(candidate(name, hidden_sizes=(32, 16)), FEATURES, seed=0)
    batch = random_batch(64)
    click_loss(model(batch), batch.label).backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter.numel():
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.abs().max() > 0, parameter_name


@every_architecture
def test_a_second_derivative_exists(name: str) -> None:
    model, batch = large_model(name), random_batch(4)
    rows = model.table.rows(batch)
    gathered = model.table.gather(rows).detach().requires_grad_()
    loss = click_loss(model.head(gathered, batch).logit, batch.label.double())
    (first,) = torch.autograd.grad(loss, gathered, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), gathered)
    assert second.isfinite().all()
    assert second.abs().max() > 0


@every_architecture
def test_padding_is_ignored(name: str) -> None:
    # Whatever stands at padding, and however much of it there is.
    model, batch = large_model(name), random_batch(16, seed=6)
    gathered = model.table.gather(model.table.rows(batch)).detach()
    is_padding = torch.cat([batch.categorical, batch.sequence.flatten(1)], dim=1) == 0
    assert is_padding.any(dim=1).all()
    other = gathered.clone()
    other[is_padding] = 7.0
    other.requires_grad_()
    logit = model.head(other, batch).logit
    torch.testing.assert_close(logit, model.head(gathered, batch).logit, rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(logit.sum(), other)
    assert (gradient[is_padding] == 0).all()

    longer = FeatureSpec(
        categorical=FEATURES.categorical,
        num_ids=FEATURES.num_ids,
        numeric=FEATURES.numeric,
        sequence=tuple(
            SequenceSpec(
                name=s.name, max_length=s.max_length + 2, target=s.target, num_ids=s.num_ids
            )
            for s in FEATURES.sequence
        ),
    )
    padded = torch.nn.functional.pad(batch.sequence, (0, 2))
    wide = large_model(name, longer)
    with torch.no_grad():
        for parameter_name, value in wide.named_parameters():
            known = model.get_parameter(parameter_name)
            # Positions of longer histories come last.
            value[tuple(slice(size) for size in known.shape)] = known
    torch.testing.assert_close(wide(replace(batch, sequence=padded)), model(batch))


@every_architecture
def test_items_of_a_history_matter_and_their_order_to_models_of_order_alone(name: str) -> None:
    model, batch = large_model(name), random_batch(1)
    history = torch.tensor([[[2, 3, 4, 0], [2, 2, 3, 0]]], dtype=torch.int32)
    turned = torch.tensor([[[4, 2, 3, 0], [3, 2, 2, 0]]], dtype=torch.int32)
    other = torch.tensor([[[2, 3, 5, 0], [2, 2, 3, 0]]], dtype=torch.int32)
    logits = [model(replace(batch, sequence=s)) for s in (history, turned, other)]
    if name in ORDERED:
        assert (logits[0] - logits[1]).abs() > 1e-6
    else:
        torch.testing.assert_close(logits[0], logits[1])
    assert (logits[0] - logits[2]).abs() > 1e-6


@every_architecture
def test_a_row_does_not_see_the_others(name: str) -> None:
    model, batch, others = large_model(name), random_batch(8, seed=7), random_batch(8, seed=8)
    logit = model.train()(batch)
    alone = torch.cat([model(batch[i : i + 1]) for i in range(8)])
    torch.testing.assert_close(alone, logit)
    mixed = [
        torch.cat([getattr(batch, f)[:1], getattr(others, f)[1:]])
        for f in ("categorical", "numeric", "sequence", "label")
    ]
    torch.testing.assert_close(model(type(batch)(*mixed))[0], logit[0])


@every_architecture
def test_no_rows_have_no_logits(name: str) -> None:
    assert build(candidate(name), FEATURES, seed=0)(random_batch(0)).shape == (0,)


@every_architecture
def test_64_rows_are_learnt_by_heart(name: str) -> None:
    # Users of one row each, so that even the linear model can tell all rows apart.
    spec = FeatureSpec(
        categorical=("user", "item"), num_ids=(66, 9), numeric=("age",), sequence=(TARGETED,)
    )
    batch = random_batch(64, spec, seed=9)
    users = torch.stack([torch.arange(2, 66, dtype=torch.int32), batch.categorical[:, 1]], dim=1)
    batch = replace(batch, categorical=users)
    model = build(candidate(name, embedding_size=8, hidden_sizes=(32,)), spec, seed=0)
    optimizer = ClickOptimizer(model, OptimizerConfig(learning_rate=0.03))
    for _ in range(250):
        train_step(model, optimizer, batch)
    assert click_loss(predict(model, batch), batch.label) < 0.05


TARGETED = SequenceSpec(name="watched", max_length=3, target="item", num_ids=9)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "lr"])
def test_a_cross_is_found_that_the_linear_model_misses(name: str) -> None:
    # Clicks where user and item are of one kind, odd or even: neither tells anything by itself.
    spec = FeatureSpec(categorical=("user", "item"), num_ids=(22, 22), numeric=(), sequence=())
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, 22, (3000, 2), generator=generator, dtype=torch.int32)
    is_click = (ids.sum(dim=1) % 2 == 0) ^ (torch.rand(3000, generator=generator) < 0.1)
    log = replace(random_batch(3000, spec), categorical=ids, label=is_click.float())
    test = slice(2000, None)

    def test_auc(architecture: str) -> float:
        chosen = candidate(architecture, embedding_size=8, hidden_sizes=(16,))
        model = build(chosen, spec, seed=0)
        fit(model, [log[:2000]] * 12, OptimizerConfig(learning_rate=0.02), batch_size=100)
        return auc(log.label[test], predict(model, log[test]))

    assert test_auc(name) > max(0.8, test_auc("lr") + 0.2)
