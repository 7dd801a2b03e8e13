"""The training loop: on a stream of shards, or on a distilled dataset."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diet_ray.data.batch import Batch, concatenate
from diet_ray.models.base import Recommender
from diet_ray.training.config import OptimizerConfig
from diet_ray.training.drift import NO_FACTORS, DriftMatch
from diet_ray.training.optimizer import ClickOptimizer
from diet_ray.training.reach import reach_of
from diet_ray.training.recipe import Recipe

STEPS_PER_POINT = 64
"""Steps that one point of a loss curve is the mean of."""


@dataclass(frozen=True, kw_only=True)
class FitResult:
    num_rows: int
    """Rows trained on, every epoch counted."""
    num_steps: int
    seconds: float
    loss_curve: tuple[tuple[int, float], ...]
    """(rows so far, mean loss before each of the last `STEPS_PER_POINT` steps)"""


def click_loss(logit: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Weighted mean () of softplus(z) − target · z over logits (B,), for weights (B,) of any scale.

    It is the cross-entropy for a target in [0, 1] and stays convex outside.
    """
    loss = torch.nn.functional.softplus(logit) - target * logit
    if weight is None:
        return loss.mean()
    return torch.dot(loss, weight) / weight.sum()


def train_step(
    model: Recommender,
    optimizer: ClickOptimizer,
    batch: Batch,
    target: Tensor | None = None,
    weight: Tensor | None = None,
    drift: DriftMatch | None = None,
) -> Tensor:
    """One step on a mini-batch; returns the logits (B,) predicted before it.

    `target` (B,) replaces the label, `weight` (B,) is taken relative to its sum, `drift` sets how
    long the step is.
    """
    return _step(model, optimizer, batch, target, weight, drift)[0]


def _step(
    model: Recommender,
    optimizer: ClickOptimizer,
    batch: Batch,
    target: Tensor | None,
    weight: Tensor | None,
    drift: DriftMatch | None = None,
) -> tuple[Tensor, Tensor]:
    """Logits (B,) and loss () before the step, detached."""
    rows = model.table.rows(batch)
    with torch.no_grad():
        gathered = model.table.gather(rows)
    gathered.requires_grad_()
    logit = model.head(gathered, batch).logit
    target = batch.label if target is None else target
    loss = click_loss(
        logit, target.to(logit.dtype), None if weight is None else weight.to(logit.dtype)
    )
    loss.backward()
    factors = NO_FACTORS if drift is None else drift.factors(logit, target, batch.label)
    gradient = gathered.grad if gathered.grad is not None else torch.zeros_like(gathered)
    reach = None
    if drift is not None and drift.bounded:
        share = torch.full_like(target, 1.0 / len(target)) if weight is None else weight
        share = (share / share.sum()).to(logit.dtype)
        reach = reach_of(logit.detach().unsqueeze(1), target.to(logit.dtype), share)
    optimizer.step(rows, gradient, factors, reach)
    return logit.detach(), loss.detach()


class _Progress:
    """Counts rows and steps, and gathers the loss curve without waiting for the device."""

    def __init__(self) -> None:
        self.begin_s = time.perf_counter()
        self.num_rows = self.num_steps = 0
        self.points: list[tuple[int, Tensor]] = []
        self.losses: list[Tensor] = []

    def add(self, num_rows: int, loss: Tensor) -> None:
        self.num_rows += num_rows
        self.num_steps += 1
        self.losses.append(loss)
        if len(self.losses) == STEPS_PER_POINT:
            self.close_point()

    def close_point(self) -> None:
        if self.losses:
            self.points.append((self.num_rows, torch.stack(self.losses).mean()))
            self.losses = []

    def result(self) -> FitResult:
        self.close_point()
        curve = tuple((num_rows, float(loss)) for num_rows, loss in self.points)
        seconds = time.perf_counter() - self.begin_s
        return FitResult(
            num_rows=self.num_rows, num_steps=self.num_steps, seconds=seconds, loss_curve=curve
        )


def rebatch(batches: Iterable[Batch], batch_size: int) -> Iterator[Batch]:
    """Re-cuts batches of any sizes to `batch_size` rows, in order; the last one may be shorter."""
    rest: Batch | None = None
    for batch in batches:
        start = 0
        if rest is not None:
            start = min(batch_size - len(rest), len(batch))
            rest = concatenate([rest, batch[:start]])
            if len(rest) < batch_size:
                continue
            yield rest
        stop = start + (len(batch) - start) // batch_size * batch_size
        for begin in range(start, stop, batch_size):
            yield batch[begin : begin + batch_size]
        rest = batch[stop:] if stop < len(batch) else None
    if rest is not None:
        yield rest


def fit(
    model: Recommender,
    batches: Iterable[Batch],
    optimizer: OptimizerConfig | ClickOptimizer,
    batch_size: int,
    on_step: Callable[[Batch, Tensor], None] | None = None,
) -> FitResult:
    """Trains once over `batches` in the order given, `batch_size` rows a step.

    Batches may have any sizes (say a shard's); the rows left over by one begin the next mini-batch.
    A `ClickOptimizer` goes on where it stood. `on_step` gets each mini-batch and the logits (B,)
    predicted before training on it: progress, and validation that is honest, come for free.
    """
    if isinstance(optimizer, OptimizerConfig):
        optimizer = ClickOptimizer(model, optimizer)
    device = model.table.weight.device
    model.train()
    progress = _Progress()
    for batch in rebatch((b.to(device) for b in batches), batch_size):
        logit, loss = _step(model, optimizer, batch, None, None)
        progress.add(len(batch), loss)
        if on_step is not None:
            on_step(batch, logit)
    return progress.result()


def distilled_targets(soft_label: Tensor, residual: Tensor, residual_share: float) -> Tensor:
    """σ(soft label) + residual_share · residual, (M,); may lie outside [0, 1]."""
    return torch.sigmoid(soft_label) + residual_share * residual


def drift_match(recipe: Recipe) -> DriftMatch | None:
    """What sets the length of a distilled run's steps; None if the recipe leaves them alone."""
    if not recipe.dense_drift and not recipe.table_drift and not recipe.bounded_table:
        return None
    return DriftMatch(
        recipe.row_visit_fraction, recipe.dense_drift, recipe.table_drift, recipe.bounded_table
    )


def distilled_batches(
    batch: Batch, target: Tensor, weight: Tensor, recipe: Recipe, batch_size: int, seed: int
) -> Iterator[tuple[Batch, Tensor, Tensor]]:
    """The mini-batches (rows, target, weight) of a whole distilled run, in the recipe's order."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(recipe.epochs):
        if recipe.order == "shuffle":
            order = torch.randperm(len(batch), generator=generator).to(target.device)
            slots, targets, weights = batch[order], target[order], weight[order]
        else:
            slots, targets, weights = batch, target, weight
        for begin in range(0, len(slots), batch_size):
            part = slice(begin, begin + batch_size)
            yield slots[part], targets[part], weights[part]


def fit_distilled(
    model: Recommender,
    batch: Batch,
    target: Tensor,
    weight: Tensor,
    recipe: Recipe,
    optimizer: OptimizerConfig,
    batch_size: int,
    seed: int,
) -> FitResult:
    """Trains on a distilled dataset as its recipe says.

    batch, target (M,), weight (M,): the slots, in time order. `optimizer` and `batch_size` are the
    candidate's own; the recipe scales them. In each mini-batch weights count relative to their sum
    there, so the last one of an epoch, if shorter, makes a step as any other does. `seed` orders
    `shuffle`.
    """
    device = model.table.weight.device
    dtype = model.table.weight.dtype
    batch, target, weight = batch.to(device), target.to(device, dtype), weight.to(device, dtype)
    steps = ClickOptimizer(model, recipe.optimizer_of(optimizer, batch_size))
    drift = drift_match(recipe)
    model.train()
    progress = _Progress()
    size = recipe.batch_size_of(batch_size)
    for part in distilled_batches(batch, target, weight, recipe, size, seed):
        _, loss = _step(model, steps, *part, drift)
        progress.add(len(part[1]), loss)
    return progress.result()


def predict(model: Recommender, batch: Batch, batch_size: int = 16384) -> Tensor:
    """Logits (B,) on the model's device, in evaluation mode, `batch_size` rows at a time."""
    device = model.table.weight.device
    was_training = model.training
    model.eval()
    with torch.no_grad():
        logits = [
            model(batch[begin : begin + batch_size].to(device))
            for begin in range(0, len(batch), batch_size)
        ]
    model.train(was_training)
    return torch.cat(logits) if logits else torch.empty(0, device=device)
