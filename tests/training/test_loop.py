"""The training loop against loops written out with autograd and a dense Adam."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from diet_ray.data.batch import Batch, concatenate
from diet_ray.models.base import TABLE_WEIGHT, Recommender
from diet_ray.models.catalogue import build
from diet_ray.training.config import OptimizerConfig
from diet_ray.training.loop import (
    STEPS_PER_POINT,
    click_loss,
    distilled_batches,
    distilled_targets,
    fit,
    fit_distilled,
    predict,
    rebatch,
    train_step,
)
from diet_ray.training.optimizer import ClickOptimizer
from diet_ray.training.recipe import Recipe
from tests.models.rows import FEATURES, candidate, large_model, random_batch

CONFIG = OptimizerConfig(learning_rate=0.02, weight_decay=0.1)
LOG = random_batch(1000, seed=11)


def model_of(architecture: str = "deepfm", **settings: object) -> Recommender:
    return build(candidate(architecture, **settings), FEATURES, seed=4)


def shards(*sizes: int) -> Iterator[Batch]:
    start = 0
    for size in sizes:
        yield LOG[start : start + size]
        start += size


def same_rows(a: Batch, b: Batch) -> bool:
    fields = ("categorical", "numeric", "sequence", "label")
    return all(torch.equal(getattr(a, f), getattr(b, f)) for f in fields)


def assert_same_weights(a: Recommender, b: Recommender) -> None:
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(1, 25))
def test_batches_are_recut_in_order(sizes: list[int], batch_size: int) -> None:
    num_rows = sum(sizes)
    recut = list(rebatch(shards(*sizes), batch_size))
    expected = [batch_size] * (num_rows // batch_size)
    expected += [num_rows % batch_size] if num_rows % batch_size else []
    assert [len(b) for b in recut] == expected
    if recut:
        assert same_rows(concatenate(recut), LOG[:num_rows])


def test_the_loss_by_hand() -> None:
    logit, target = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 1.2])
    # ln 2 − 0 and ln(1 + e) − 1.2
    each = [math.log(2.0), math.log(1.0 + math.e) - 1.2]
    assert click_loss(logit, target).item() == pytest.approx(sum(each) / 2)
    weighted = click_loss(logit, target, torch.tensor([3.0, 1.0]))
    assert weighted.item() == pytest.approx((3 * each[0] + each[1]) / 4)
    label = torch.tensor([1.0, 0.0])
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(logit, label)
    assert click_loss(logit, label).item() == pytest.approx(cross_entropy.item())
    assert click_loss(torch.tensor([-1e4]), torch.ones(1)).item() == 1e4


def test_targets_by_hand() -> None:
    soft_label, residual = torch.tensor([0.0, 2.0]), torch.tensor([0.8, -0.5])
    expected = [0.5 + 0.25 * 0.8, 1.0 / (1.0 + math.exp(-2.0)) - 0.25 * 0.5]
    assert distilled_targets(soft_label, residual, 0.25).tolist() == pytest.approx(expected)
    assert distilled_targets(torch.tensor([3.0]), torch.tensor([0.9]), 1.0).item() > 1.0


def dense_adam(
    model: Recommender, steps: list[tuple[Batch, Tensor, Tensor | None]], lr: float
) -> list[float]:
    """Training through `forward` by torch's own Adam; losses before each step.

    The table has no momentum.
    """
    dense = [p for name, p in model.named_parameters() if name != TABLE_WEIGHT]
    table = {"params": [model.table.weight], "betas": (0.0, 0.999)}
    adam = torch.optim.Adam([{"params": dense}, table], lr=lr)
    losses = []
    for batch, target, weight in steps:
        weight = torch.ones(len(batch)) if weight is None else weight
        share = weight / weight.sum()
        logit = model(batch)
        loss = (share * (torch.log1p(logit.exp()) - target * logit)).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            model.table.weight[list(model.table.block_starts)] = 0.0
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("architecture", ["lr", "dcnv2", "din"])
def test_fit_is_the_loop_written_out(architecture: str) -> None:
    # Mini-batches that hold every id, so that lazy and dense updates are one.
    model, reference = large_model(architecture), large_model(architecture)
    seen = []
    config = OptimizerConfig(learning_rate=0.01)
    result = fit(model, shards(130, 30, 240), config, 100, lambda batch, _: seen.append(batch))
    batches = list(rebatch(shards(400), 100))
    assert all(same_rows(a, b) for a, b in zip(seen, batches, strict=True))
    for batch in batches:
        rows = set(reference.table.rows(batch).flatten().tolist())
        assert len(rows | set(reference.table.block_starts)) == len(reference.table.weight)
    losses = dense_adam(reference, [(b, b.label.double(), None) for b in batches], 0.01)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, reference.state_dict()[name], msg=name)
    assert (result.num_rows, result.num_steps) == (400, 4)
    assert result.loss_curve == ((400, pytest.approx(sum(losses) / 4)),)
    assert result.seconds > 0


def test_how_shards_are_cut_changes_nothing() -> None:
    models = [model_of(dropout=0.3) for _ in range(3)]
    for model, sizes in zip(models, ((500,), (1, 0, 68, 431), (250, 250)), strict=True):
        fit(model, shards(*sizes), CONFIG, 64)
    assert_same_weights(models[0], models[1])
    assert_same_weights(models[0], models[2])


def test_an_optimiser_goes_on_where_it_stood() -> None:
    whole, halves = model_of(), model_of()
    fit(whole, shards(400), CONFIG, 50)
    optimizer = ClickOptimizer(halves, CONFIG)
    for part in (LOG[:200], LOG[200:400]):
        fit(halves, [part], optimizer, 50)
    assert_same_weights(whole, halves)


def test_predictions_are_of_the_model_before_the_step() -> None:
    model = model_of()
    optimizer = ClickOptimizer(model, CONFIG)
    for batch in rebatch(shards(150), 50):
        expected = predict(model, batch)
        logit = train_step(model, optimizer, batch)
        assert not logit.requires_grad
        torch.testing.assert_close(logit, expected)
        assert (predict(model, batch) - logit).abs().max() > 1e-4

    watched, stepped, seen = model_of(), model_of(), []
    fit(watched, shards(300), CONFIG, 100, lambda _, logit: seen.append(logit))
    optimizer = ClickOptimizer(stepped, CONFIG)
    for batch, logit in zip(rebatch(shards(300), 100), seen, strict=True):
        torch.testing.assert_close(logit, predict(stepped, batch))
        train_step(stepped, optimizer, batch)


def test_predictions_ignore_the_batch_size_and_leave_the_model_as_it_was() -> None:
    model = model_of(dropout=0.5).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logits = predict(model, LOG[:70])
    torch.testing.assert_close(predict(model, LOG[:70], batch_size=9), logits)
    assert model.training
    assert not logits.requires_grad
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not predict(model.eval(), LOG[:3]).requires_grad
    assert not model.training
    assert predict(model, LOG[:0]).shape == (0,)


def test_the_loss_curve_has_a_point_every_so_many_steps() -> None:
    result = fit(model_of("lr"), shards(1000), CONFIG, 10)
    rows = [num_rows for num_rows, _ in result.loss_curve]
    assert rows == [10 * STEPS_PER_POINT, 1000]
    assert (result.num_rows, result.num_steps) == (1000, 100)
    assert fit(model_of("lr"), [], CONFIG, 10).loss_curve == ()


def test_training_turns_dropout_on_even_after_an_evaluation() -> None:
    models = [model_of(dropout=0.5), model_of(dropout=0.5).eval()]
    for model in models:
        fit(model, shards(100), CONFIG, 50)
    assert_same_weights(*models)
    target, weight = LOG.label[:100], torch.ones(100)
    models = [model_of(dropout=0.5), model_of(dropout=0.5).eval()]
    for model in models:
        fit_distilled(model, LOG[:100], target, weight, Recipe(), CONFIG, 32, seed=0)
    assert_same_weights(*models)


SLOTS = LOG[:70]
TARGET = torch.linspace(-0.2, 1.2, 70)
WEIGHT = torch.linspace(1.0, 9.0, 70)


def slots_in_order(recipe: Recipe, seed: int, batch_size: int = 32) -> list[list[int]]:
    """Which slots each mini-batch holds; rows, targets and weights must agree."""
    found = []
    for batch, target, weight in distilled_batches(SLOTS, TARGET, WEIGHT, recipe, batch_size, seed):
        slots = [int((t == TARGET).nonzero()) for t in target]
        assert torch.equal(weight, WEIGHT[slots])
        assert same_rows(batch, SLOTS[torch.tensor(slots)])
        found.append(slots)
    return found


def test_distilled_epochs_are_in_time_order() -> None:
    epoch = [list(range(0, 32)), list(range(32, 64)), list(range(64, 70))]
    assert slots_in_order(Recipe(), seed=0) == epoch
    assert slots_in_order(Recipe(epochs=3), seed=1) == epoch * 3


def test_shuffled_epochs_hold_every_slot_once_and_follow_the_seed() -> None:
    recipe = Recipe(epochs=2, order="shuffle")
    order = slots_in_order(recipe, seed=0, batch_size=25)
    assert [len(slots) for slots in order] == [25, 25, 20] * 2
    first, second = (list(itertools.chain(*epoch)) for epoch in (order[:3], order[3:]))
    assert sorted(first) == sorted(second) == list(range(70))
    assert first != second
    assert first != list(range(70))
    torch.manual_seed(9)
    assert slots_in_order(recipe, seed=0, batch_size=25) == order
    assert slots_in_order(recipe, seed=1, batch_size=25) != order


def test_fit_distilled_is_the_loop_written_out() -> None:
    # √4 and 4 by hand, and weights of any scale.
    model, reference = large_model("deepfm"), large_model("deepfm")
    recipe = Recipe(epochs=2, batch_share=0.5, steps_per_step=4.0)
    result = fit_distilled(
        model, SLOTS, TARGET, WEIGHT, recipe, OptimizerConfig(learning_rate=0.01), 140, seed=0
    )
    adam = OptimizerConfig(learning_rate=0.02, beta1=0.6, beta2=0.996, epsilon=0.5e-8)
    optimizer = ClickOptimizer(reference, adam)
    for _ in range(2):
        train_step(reference, optimizer, SLOTS, TARGET, 7.0 * WEIGHT)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, reference.state_dict()[name], msg=name)
    assert (result.num_rows, result.num_steps) == (140, 2)


def test_weight_and_target_enter_as_in_the_formula() -> None:
    # A slot of weight three counts as three slots; a target beyond 1 as the formula has it.
    model, thrice = large_model("dnn"), large_model("dnn")
    rows = torch.tensor([0, 1, 1, 1, 2])
    weight = torch.tensor([1.0, 3.0, 1.0])
    config = OptimizerConfig(learning_rate=0.01)
    train_step(model, ClickOptimizer(model, config), SLOTS[:3], TARGET[-3:], weight)
    train_step(thrice, ClickOptimizer(thrice, config), SLOTS[rows], TARGET[-3:][rows])
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, thrice.state_dict()[name], msg=name)
