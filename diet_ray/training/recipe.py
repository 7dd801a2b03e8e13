"""How to train a candidate on a distilled dataset: the recipe that ships in its manifest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from diet_ray.training.config import OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    epochs: int = 1
    batch_size: int = 32
    order: Literal["time", "shuffle"] = "time"
    residual_share: float = 0.0
    """Target of a slot = σ(soft label) + residual_share · (observed label − honest prediction)."""
    steps_per_step: float = 1.0
    """κ: how many steps of full training one step on the distilled dataset stands for."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError("epochs and batch_size must be at least 1")
        if self.residual_share < 0 or self.steps_per_step <= 0:
            raise ValueError("residual_share must be at least 0, steps_per_step above 0")


def matched_recipe(
    *, num_rows_full: int, num_slots: int, full_batch_size: int, batch_size: int = 32
) -> Recipe:
    """One epoch in time order whose every step plays κ = B' / (r · B) full ones.

    r = num_slots / num_rows_full, B = full_batch_size, B' = batch_size. The observed residual gets
    the share √r, so that its noise, summed over 1/r times fewer rows, keeps its scale.
    """
    r = num_slots / num_rows_full
    return Recipe(
        batch_size=batch_size,
        residual_share=math.sqrt(r),
        steps_per_step=max(1.0, batch_size / (r * full_batch_size)),
    )


def scaled_optimizer(optimizer: OptimizerConfig, steps_per_step: float) -> OptimizerConfig:
    """Adam's square-root rule for steps that stand for κ steps each.

    Learning rate and weight decay × √κ, 1 − β × κ (β at least 0), ε / √κ.
    """
    root = math.sqrt(steps_per_step)
    return OptimizerConfig(
        learning_rate=optimizer.learning_rate * root,
        weight_decay=optimizer.weight_decay * root,
        beta1=max(0.0, 1.0 - steps_per_step * (1.0 - optimizer.beta1)),
        beta2=max(0.0, 1.0 - steps_per_step * (1.0 - optimizer.beta2)),
        epsilon=optimizer.epsilon / root,
    )
