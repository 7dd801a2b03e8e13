from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import TABLE_WEIGHT as TABLE
from diet_ray.models.base import Recommender
from diet_ray.models.catalogue import build
from diet_ray.models.growth import grow
from diet_ray.training.config import OptimizerConfig
from diet_ray.training.drift import DriftMatch, StepFactors
from diet_ray.training.loop import click_loss, train_step
from diet_ray.training.optimizer import ClickOptimizer
from tests.models.rows import FEATURES, candidate, large_model, random_batch

CONFIG = OptimizerConfig(learning_rate=0.05, weight_decay=0.3, beta1=0.8, beta2=0.9, epsilon=1e-6)
GROWN = FeatureSpec(
    categorical=FEATURES.categorical,
    num_ids=(11, 13),
    numeric=FEATURES.numeric,
    sequence=tuple(
        type(s)(name=s.name, max_length=s.max_length, target=s.target, num_ids=n)
        for s, n in zip(FEATURES.sequence, (13, 8), strict=True)
    ),
)


class ReferenceAdam:
    """The update of one tensor, entry by entry as in the paper; whole rows can be left out."""

    def __init__(self, weight: Tensor, config: OptimizerConfig) -> None:
        self.weight, self.config, self.num_steps = weight.clone(), config, 0
        self.first, self.second = torch.zeros_like(weight), torch.zeros_like(weight)

    def step(self, grad: Tensor, rows: list[int]) -> None:
        c = self.config
        self.num_steps += 1
        for i in rows:
            self.first[i] = c.beta1 * self.first[i] + (1 - c.beta1) * grad[i]
            self.second[i] = c.beta2 * self.second[i] + (1 - c.beta2) * grad[i] ** 2
            first = self.first[i] / (1 - c.beta1**self.num_steps)
            second = self.second[i] / (1 - c.beta2**self.num_steps)
            decayed = (1 - c.learning_rate * c.weight_decay) * self.weight[i]
            self.weight[i] = decayed - c.learning_rate * first / (second.sqrt() + c.epsilon)


def dense_gradients(model: Recommender, batch: Batch) -> dict[str, Tensor]:
    """Of the mean cross-entropy by the whole table and all weights, without the gather."""
    loss = torch.nn.functional.binary_cross_entropy_with_logits(model(batch), batch.label.double())
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


@pytest.mark.parametrize("architecture", ["deepfm", "din", "lr"])
def test_steps_are_adam_on_dense_weights_and_touched_rows(architecture: str) -> None:
    model = large_model(architecture)
    optimizer = ClickOptimizer(model, CONFIG)
    references = {
        # The table has no momentum.
        name: ReferenceAdam(p.detach(), replace(CONFIG, beta1=0.0) if name == TABLE else CONFIG)
        for name, p in model.named_parameters()
    }
    for step in range(5):
        # Few rows, so that most ids sit out most steps; many items occur more than once.
        batch = random_batch(3, seed=step)
        touched = sorted(set(model.table.rows(batch).flatten().tolist()))
        touched = [row for row in touched if row not in model.table.block_starts]
        for name, grad in dense_gradients(model, batch).items():
            rows = touched if name == TABLE else range(len(grad))
            references[name].step(grad, list(rows))
        train_step(model, optimizer, batch)
        for name, p in model.named_parameters():
            expected = references[name].weight
            torch.testing.assert_close(p.detach(), expected, rtol=1e-9, atol=1e-12, msg=name)


def test_untouched_rows_keep_weights_and_moments() -> None:
    model = large_model("fm")
    optimizer = ClickOptimizer(model, CONFIG)
    for step in range(3):
        train_step(model, optimizer, random_batch(16, seed=step))
    before = {k: v.clone() for k, v in (model.state_dict() | optimizer.state_dict()).items()}
    batch = random_batch(1, seed=7)
    train_step(model, optimizer, batch)
    after = model.state_dict() | optimizer.state_dict()
    untouched = torch.ones(len(model.table.weight), dtype=torch.bool)
    untouched[model.table.rows(batch).flatten()] = False
    assert 0 < untouched.sum() < len(untouched) - 3
    for name in (TABLE, f"{TABLE}.exp_avg_sq"):
        assert torch.equal(before[name][untouched], after[name][untouched])
        assert not torch.equal(before[name][~untouched], after[name][~untouched])


def test_padding_rows_stay_zero_even_where_a_gradient_reaches_them() -> None:
    model = large_model("deepfm")
    optimizer = ClickOptimizer(model, CONFIG)
    batch = random_batch(8)
    batch.categorical[:4] = 0
    for _ in range(3):
        train_step(model, optimizer, batch)
    assert (model.table.weight[list(model.table.block_starts)] == 0).all()


def test_a_late_id_moves_as_far_as_under_dense_adam() -> None:
    spec = FeatureSpec(categorical=("item",), num_ids=(4,), numeric=(), sequence=())
    config = OptimizerConfig(learning_rate=0.001, epsilon=1e-15)
    rows = {
        i: Batch(
            torch.full((1, 1), i, dtype=torch.int32),
            torch.zeros(1, 0),
            torch.zeros(1, 0, 0, dtype=torch.int32),
            torch.ones(1),
        )
        for i in (2, 3)
    }
    ours = build(candidate("lr"), spec, seed=0).double()
    optimizer = ClickOptimizer(ours, config)
    dense = build(candidate("lr"), spec, seed=0).double()
    adam = torch.optim.Adam(dense.parameters(), lr=config.learning_rate, eps=config.epsilon)
    # Id 3 comes once, after 299 rows without it; dense Adam moves it for a while after that.
    for item in [2] * 299 + [3] + [2] * 100:
        train_step(ours, optimizer, rows[item])
        adam.zero_grad()
        click_loss(dense(rows[item]), rows[item].label).backward()
        adam.step()
    moved = [model.table.weight[3].item() for model in (ours, dense)]
    assert moved[0] == pytest.approx(0.001 / math.sqrt(0.001 / (1 - 0.999**300)))
    assert moved[0] == pytest.approx(moved[1], rel=0.05)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_resuming_is_bit_identical(dropout: float) -> None:
    def fresh(seed: int) -> tuple[Recommender, ClickOptimizer]:
        model = build(candidate("deepfm", dropout=dropout, hidden_sizes=(16, 8)), FEATURES, seed)
        return model, ClickOptimizer(model, CONFIG)

    unbroken, whole = fresh(seed=0)
    for step in range(12):
        train_step(unbroken, whole, random_batch(16, seed=step))

    model, optimizer = fresh(seed=0)
    for step in range(6):
        train_step(model, optimizer, random_batch(16, seed=step))
    saved = {k: v.clone() for k, v in model.state_dict().items()}
    saved_optimizer = {k: v.clone() for k, v in optimizer.state_dict().items()}
    assert all(isinstance(v, Tensor) for v in (*saved.values(), *saved_optimizer.values()))
    model, optimizer = fresh(seed=9)
    model.load_state_dict(saved)
    optimizer.load_state_dict(saved_optimizer)
    for step in range(6, 12):
        train_step(model, optimizer, random_batch(16, seed=step))

    for own, other in ((unbroken, model), (whole, optimizer)):
        expected, actual = own.state_dict(), other.state_dict()
        assert expected.keys() == actual.keys()
        for name, value in expected.items():
            assert torch.equal(value, actual[name]), name


def test_state_of_another_model_is_refused() -> None:
    optimizer = ClickOptimizer(build(candidate("deepfm"), FEATURES, seed=0), CONFIG)
    other = ClickOptimizer(build(candidate("fm"), FEATURES, seed=0), CONFIG)
    with pytest.raises(ValueError, match="another model"):
        optimizer.load_state_dict(other.state_dict())
    larger = ClickOptimizer(build(candidate("deepfm"), GROWN, seed=0), CONFIG)
    with pytest.raises(ValueError, match=r"table\.weight\.exp_avg_sq"):
        optimizer.load_state_dict(larger.state_dict())


def test_a_state_with_momentum_of_the_table_is_taken_without_it() -> None:
    optimizer = ClickOptimizer(build(candidate("fm"), FEATURES, seed=0), CONFIG)
    train_step(optimizer.model, optimizer, random_batch(8))
    state = {k: v.clone() for k, v in optimizer.state_dict().items()}
    fresh = ClickOptimizer(build(candidate("fm"), FEATURES, seed=0), CONFIG)
    fresh.load_state_dict(state | {f"{TABLE}.exp_avg": torch.ones(3)})
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, state[name])


def test_training_goes_on_over_growth_as_if_the_table_had_been_large_from_the_start() -> None:
    def train(model: Recommender, optimizer: ClickOptimizer, seeds: range) -> None:
        for step in seeds:
            train_step(model, optimizer, random_batch(16, seed=step))

    small = build(candidate("deepfm"), FEATURES, seed=5)
    optimizer = ClickOptimizer(small, CONFIG)
    train(small, optimizer, range(4))
    grown = grow(small, GROWN, seed=5)
    grown_optimizer = optimizer.grow(grown)

    large = build(candidate("deepfm"), GROWN, seed=5)
    large_optimizer = ClickOptimizer(large, CONFIG)
    train(large, large_optimizer, range(4))

    train(grown, grown_optimizer, range(4, 8))
    train(large, large_optimizer, range(4, 8))
    for a, b in ((grown, large), (grown_optimizer, large_optimizer)):
        expected = b.state_dict()
        for name, value in a.state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-7, msg=name)


def test_gradients_are_consumed() -> None:
    model = build(candidate("dnn"), FEATURES, seed=0)
    optimizer = ClickOptimizer(model, CONFIG)
    train_step(model, optimizer, random_batch(4))
    assert all(p.grad is None for p in model.parameters())


def test_factors_lengthen_the_steps_of_their_weights() -> None:
    # One step from equal weights: dense weights twice as far, table rows 3 times.
    batch = random_batch(3, seed=0)
    plain, longer = large_model("deepfm"), large_model("deepfm")
    start = {name: p.detach().clone() for name, p in plain.named_parameters()}
    train_step(plain, ClickOptimizer(plain, CONFIG), batch)

    class Fixed(DriftMatch):
        def factors(self, logit: Tensor, target: Tensor, label: Tensor) -> StepFactors:
            return StepFactors(dense=2.0, table=3.0)

    optimizer = ClickOptimizer(longer, CONFIG)
    train_step(longer, optimizer, batch, drift=Fixed(1.0, 0.0, 0.0))
    for name, p in longer.named_parameters():
        step = dict(plain.named_parameters())[name].detach() - start[name]
        factor = 3.0 if name == "table.weight" else 2.0
        torch.testing.assert_close(p.detach() - start[name], factor * step, msg=name)
