"""Refinement: the bi-level step that improves addressed slots.

Inner problem: train a model on the addressed slots from a start (the proxy before the stage, the
proxy after it, or a fresh initialisation). Outer problem: lower that model's loss on real rows of
the stage plus real rows of earlier stages (retention). The outer gradient reaches soft labels,
weights and numeric content through a truncated window of the inner steps. Changes are kept only if
they lower the loss on real rows that the outer steps never saw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diet_ray.data.batch import Batch, concatenate
from diet_ray.distillation.unroll import CompactModel, InnerState, inner_step
from diet_ray.models.base import Recommender
from diet_ray.training.config import OptimizerConfig
from diet_ray.training.loop import click_loss

MAX_LOGIT = 12.0
"""Soft labels stay within ± this: a probability of a few in a million."""
_BISECTIONS = 60


@dataclass(frozen=True, kw_only=True)
class RefinementConfig:
    outer_steps: int = 0
    """Outer gradient steps a stage, say 12; with 0, the default, there is no refinement, as it was
    not found to help a ranking."""
    outer_learning_rate: float = 0.02
    inner_batch_size: int = 256
    total_window: int = 12
    """Inner steps that a window may reach to."""
    window: int = 4
    """Inner steps that are differentiated."""
    inner_learning_rate: float = 3e-3
    outer_batch_size: int = 1024
    """Real rows an outer step looks at, half of the stage, half of earlier ones."""
    clip_factor: float = 2.0
    """The outer gradient's norm is clipped at this multiple of its running mean."""
    clip_memory: float = 0.9
    max_weight_ratio: float = 4.0
    """A slot's weight changes by no more than this factor in a stage, up or down."""

    def __post_init__(self) -> None:
        if self.outer_steps < 0 or self.inner_batch_size < 1 or self.outer_batch_size < 2:
            raise ValueError("outer_steps, inner_batch_size or outer_batch_size is too small")
        if not 1 <= self.window <= self.total_window:
            raise ValueError("window must lie between 1 and total_window")
        if not 0 <= self.clip_memory < 1 or self.clip_factor <= 0:
            raise ValueError("clip_memory must lie in [0, 1), clip_factor above 0")
        if self.max_weight_ratio < 1:
            raise ValueError("max_weight_ratio must be at least 1")


@dataclass(frozen=True, kw_only=True)
class SlotContent:
    """What refinement may change in K slots: soft labels (logits), weights, numeric values."""

    soft_label: Tensor
    """(K,)"""
    weight: Tensor
    """(K,), above 0"""
    numeric: Tensor
    """(K, N)"""


@dataclass(frozen=True, kw_only=True)
class RefinementResult:
    content: SlotContent
    accepted: bool
    loss_before: float | None
    """Validation loss of a model trained on the slots as they were, mean over starts; None if
    there was nothing to try."""
    loss_after: float | None
    gradient_norm: float
    """Running mean of the outer gradient's norm, to be handed to the next stage."""


def refine(
    slots: Batch,
    content: SlotContent,
    residual_target: Tensor,
    starts: Sequence[Recommender],
    stage_rows: Batch,
    retained_rows: Batch | None,
    config: RefinementConfig,
    *,
    gradient_norm: float,
    generator: torch.Generator,
) -> RefinementResult:
    """Improves the content of K addressed slots.

    slots: their encoded rows, in time order. residual_target (K,): what is added to σ(soft label)
    to give the training target. stage_rows, retained_rows: real rows with observed labels; every
    second one is held back for validation. gradient_norm: running mean from earlier stages, 0 at
    the first. The total weight of the slots is kept.
    """
    if not len(slots) or not config.outer_steps:
        return RefinementResult(
            content=content,
            accepted=False,
            loss_before=None,
            loss_after=None,
            gradient_norm=gradient_norm,
        )
    outer_rows, validation_rows = _split(stage_rows, retained_rows)
    models = [CompactModel(m, [slots, outer_rows, validation_rows]) for m in starts]
    soft_label = content.soft_label.detach().clone().requires_grad_()
    first_log_weight, bound = content.weight.float().log(), math.log(config.max_weight_ratio)
    log_weight = first_log_weight.clone().requires_grad_()
    numeric = content.numeric.detach().clone().requires_grad_()
    free = [p for p in (soft_label, log_weight, numeric) if p.numel()]
    outer_optimizer = torch.optim.Adam(free, lr=config.outer_learning_rate)
    inner_optimizer = OptimizerConfig(learning_rate=config.inner_learning_rate)

    for step in range(config.outer_steps):
        model = models[step % len(models)]
        state = _train(
            model, slots, soft_label, log_weight, numeric, residual_target,
            config, inner_optimizer, generator, differentiable=True,
        )  # fmt: skip
        picked = torch.randint(
            len(outer_rows), (min(config.outer_batch_size, len(outer_rows)),), generator=generator
        )
        batch = outer_rows[picked]
        loss = click_loss(model.logits(state, model.compact(batch), batch), batch.label)
        outer_optimizer.zero_grad()
        gradients = torch.autograd.grad(loss, free, allow_unused=True)
        squares = [g.square().sum() for g in gradients if g is not None]
        norm = torch.stack(squares).sum().sqrt()
        if not torch.isfinite(norm):
            break
        gradient_norm = _running(gradient_norm, float(norm), config.clip_memory)
        scale = min(1.0, config.clip_factor * gradient_norm / max(float(norm), 1e-30))
        for parameter, g in zip(free, gradients, strict=True):
            parameter.grad = None if g is None else g * scale
        outer_optimizer.step()
        with torch.no_grad():
            log_weight.clamp_(first_log_weight - bound, first_log_weight + bound)
            soft_label.clamp_(-MAX_LOGIT, MAX_LOGIT)

    refined = SlotContent(
        soft_label=soft_label.detach(),
        weight=_with_total(
            log_weight.detach().double().exp(), content.weight.double(), config.max_weight_ratio
        ),
        numeric=numeric.detach(),
    )
    before = _validation_loss(models, slots, content, residual_target, validation_rows, config)
    after = _validation_loss(models, slots, refined, residual_target, validation_rows, config)
    accepted = after < before
    return RefinementResult(
        content=refined if accepted else content,
        accepted=accepted,
        loss_before=before,
        loss_after=after,
        gradient_norm=gradient_norm,
    )


def _train(
    model: CompactModel,
    slots: Batch,
    soft_label: Tensor,
    log_weight: Tensor,
    numeric: Tensor,
    residual_target: Tensor,
    config: RefinementConfig,
    optimizer: OptimizerConfig,
    generator: torch.Generator,
    *,
    differentiable: bool,
) -> InnerState:
    """Inner training up to a random end of the window; the last `window` steps keep their graph."""
    slack = config.total_window - config.window
    warm_up = int(torch.randint(slack + 1, (1,), generator=generator))
    positions = model.compact(slots)
    state = model.initial()
    for step in range(warm_up + config.window):
        rows = torch.randint(
            len(slots), (min(config.inner_batch_size, len(slots)),), generator=generator
        )
        batch = replace(slots[rows], numeric=numeric[rows])
        state = inner_step(
            model,
            state,
            positions[rows],
            batch,
            torch.sigmoid(soft_label[rows]) + residual_target[rows],
            log_weight[rows].exp(),
            optimizer,
            differentiable=differentiable and step >= warm_up,
        )
    return state


def _validation_loss(
    models: Sequence[CompactModel],
    slots: Batch,
    content: SlotContent,
    residual_target: Tensor,
    rows: Batch,
    config: RefinementConfig,
) -> float:
    """Mean over starts of the loss on `rows` after the same inner steps, whatever the content."""
    optimizer = OptimizerConfig(learning_rate=config.inner_learning_rate)
    total = 0.0
    for number, model in enumerate(models):
        state = _train(
            model, slots, content.soft_label, content.weight.float().log(), content.numeric,
            residual_target, replace(config, window=config.total_window), optimizer,
            torch.Generator().manual_seed(number), differentiable=False,
        )  # fmt: skip
        with torch.no_grad():
            total += float(click_loss(model.logits(state, model.compact(rows), rows), rows.label))
    return total / len(models)


def _split(stage_rows: Batch, retained_rows: Batch | None) -> tuple[Batch, Batch]:
    """Outer and validation rows: every second row of the stage and of the retained ones."""
    parts = [stage_rows] if retained_rows is None else [stage_rows, retained_rows]
    return (
        concatenate([b[slice(0, None, 2)] for b in parts]),
        concatenate([b[slice(1, None, 2)] for b in parts]),
    )


def _running(mean: float, value: float, memory: float) -> float:
    return value if mean == 0.0 else memory * mean + (1.0 - memory) * value


def _with_total(weight: Tensor, first: Tensor, max_ratio: float) -> Tensor:
    """Weights (K,) scaled to the sum of `first` (K,), none further than `max_ratio` from its own.

    What reaches that bound stays there, and the others make up for it.
    """
    low, high = max_ratio**-2, max_ratio**2
    least, most, total = first / max_ratio, first * max_ratio, first.sum()
    for _ in range(_BISECTIONS):
        middle = math.sqrt(low * high)
        if (weight * middle).clamp(least, most).sum() < total:
            low = middle
        else:
            high = middle
    return (weight * high).clamp(least, most)
