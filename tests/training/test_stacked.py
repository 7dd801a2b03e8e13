"""Training side by side takes every model where it goes alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diet_ray.data.batch import Batch
from diet_ray.models.base import HeadOutput
from diet_ray.models.catalogue import ARCHITECTURES, build
from diet_ray.models.lr import LR
from diet_ray.models.stack import ModelStack, NotStackable
from diet_ray.training.config import OptimizerConfig
from diet_ray.training.drift import DriftMatch
from diet_ray.training.loop import train_step
from diet_ray.training.optimizer import ClickOptimizer
from diet_ray.training.stacked import StackedTraining
from tests.models.rows import FEATURES, candidate, random_batch

OPTIMIZERS = (
    OptimizerConfig(learning_rate=0.02),
    OptimizerConfig(learning_rate=0.005, weight_decay=0.3),
    OptimizerConfig(learning_rate=0.01, weight_decay=0.1),
)
SIZES = (10, 10, 10, 7)


def steps() -> list[tuple[Batch, Tensor, Tensor]]:
    found = []
    for seed, size in enumerate(SIZES):
        g = torch.Generator().manual_seed(seed)
        target, weight = torch.rand(size, generator=g), torch.rand(size, generator=g) + 0.1
        found.append((random_batch(size, seed=seed), target.double(), weight.double()))
    return found


@pytest.mark.parametrize("name", list(ARCHITECTURES))
@pytest.mark.parametrize("drift", [False, True])
def test_models_side_by_side_learn_what_they_learn_alone(name: str, drift: bool) -> None:
    def drifts() -> list[DriftMatch]:
        return [DriftMatch(0.02, 0.5, 1.0, bounded=True) for _ in OPTIMIZERS]

    settings = {"dropout": 0.3, "embedding_size": 4}
    models = [
        build(candidate(name, **settings), FEATURES, seed=s).double().train()
        for s, _ in enumerate(OPTIMIZERS)
    ]
    stack = ModelStack(models)
    training, together = StackedTraining(stack, OPTIMIZERS), drifts()
    for batch, target, weight in steps():
        rows = stack.table.rows(batch)
        training.step(rows, batch, target, weight, together if drift else None)

    for i, (model, config, match) in enumerate(zip(models, OPTIMIZERS, drifts(), strict=True)):
        optimizer = ClickOptimizer(model, config)
        for batch, target, weight in steps():
            train_step(model, optimizer, batch, target, weight, match if drift else None)
        table = stack.table_weight.unflatten(1, (3, -1))[:, i]
        torch.testing.assert_close(table, model.table.weight.detach(), rtol=1e-6, atol=1e-9)
        for weight_name, weights in stack.dense.items():
            expected = model.get_parameter(weight_name).detach()
            torch.testing.assert_close(weights[i], expected, rtol=1e-6, atol=1e-9)


def test_optimisers_that_differ_in_more_than_rates_are_refused() -> None:
    stack = ModelStack([build(candidate("dnn"), FEATURES, seed=s) for s in (0, 1)])
    with pytest.raises(NotStackable, match="more than learning rate"):
        StackedTraining(stack, [OptimizerConfig(), OptimizerConfig(beta1=0.5)])


class Alternating(LR):
    """Each call computes something else."""

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        self.calls = getattr(self, "calls", 0) + 1
        logit, hidden = super().head(gathered, batch)
        return HeadOutput(logit + float(self.calls), hidden)


def test_a_model_that_computes_something_else_alone_is_refused() -> None:
    own = [build(candidate(f"{__name__}:Alternating"), FEATURES, seed=s) for s in (0, 1)]
    stack = ModelStack(own)
    batch, target, weight = random_batch(6), torch.rand(6), torch.ones(6)
    with pytest.raises(NotStackable, match="something else than alone"):
        StackedTraining(stack, [OptimizerConfig()] * 2).step(
            stack.table.rows(batch), batch, target, weight
        )
