"""How to train a candidate on a distilled dataset: the recipe that ships in its manifest."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from diet_ray.training.config import OptimizerConfig

STEPS_PER_STEP = 4.0
"""Steps of full training that one step on a distilled dataset stands for, on a log of up to a few
million rows."""
MAX_STEPS_PER_STEP = 16.0
ENOUGH_STEPS = 1_000
"""Of a distilled run. On a longer log a step may stand for more: what a short run's few steps, a
hundred or two, can't afford, a thousand can, and steps are what a distilled run costs."""
LARGEST_COARSE_SHARE = 1 / 60
"""Of the row visits. A larger set makes more steps, not larger mini-batches, until a step stands
for one of full training: what holds a longer run back is how coarse its steps are, not how few its
rows."""
LARGEST_SOFT_SHARE = 1 / 10
"""Of the row visits. On larger sets observed labels count, see `observed_share`. At 1/5 that is
worth much, at 1/15 less than nothing; what lies between was not tried."""
_USUAL_BATCH_SIZE = 512
MAX_EPOCHS = 10_000
MAX_BATCH_SHARE = 1_000_000
"""A recipe ships with a set, whoever made it: none may ask for a training without end."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    epochs: int = 1
    batch_share: float = 1.0
    """Mini-batch as a share of the candidate's own batch size."""
    order: Literal["time", "shuffle"] = "time"
    residual_share: float = 0.0
    """Target of a slot = σ(soft label) + residual_share · (observed label − honest prediction)."""
    steps_per_step: float = 1.0
    """κ: how many steps of full training one step on the distilled dataset stands for."""
    row_visit_fraction: float = 1.0
    """r: row visits of a distilled run over those of a full run."""
    dense_drift: float = 0.0
    """Exponent of the drift factor c on dense weights, see `drift`; 0 leaves their steps alone."""
    table_drift: float = 0.0
    """Exponent of the drift factor on embeddings."""
    bounded_table: bool = False
    """Steps of the table carry no row's logit past its target, see `reach`."""

    def __post_init__(self) -> None:
        if not 1 <= self.epochs <= MAX_EPOCHS or not 0 < self.batch_share <= MAX_BATCH_SHARE:
            raise ValueError(
                f"epochs must lie from 1 to {MAX_EPOCHS}, batch_share above 0 and up to "
                f"{MAX_BATCH_SHARE}"
            )
        if self.residual_share < 0 or self.steps_per_step <= 0:
            raise ValueError("residual_share must be at least 0, steps_per_step above 0")
        if self.row_visit_fraction <= 0:
            raise ValueError("row_visit_fraction must be above 0")
        if self.dense_drift < 0 or self.table_drift < 0:
            raise ValueError("dense_drift and table_drift must be at least 0")

    def batch_size_of(self, full_batch_size: int) -> int:
        """Rows of a mini-batch for a candidate that takes `full_batch_size` in full training."""
        return max(1, round(self.batch_share * full_batch_size))

    def optimizer_of(self, optimizer: OptimizerConfig, full_batch_size: int) -> OptimizerConfig:
        """The candidate's optimiser for steps on the distilled dataset, rounding accounted for."""
        rounding = self.batch_size_of(full_batch_size) / (self.batch_share * full_batch_size)
        return scaled_optimizer(optimizer, self.steps_per_step * rounding)


def usual_pace(num_rows_full: int, row_visit_fraction: float = LARGEST_COARSE_SHARE) -> float:
    """κ for a log of so many training rows and a set of a share of them."""
    num_steps = num_rows_full / _USUAL_BATCH_SIZE
    pace = min(max(STEPS_PER_STEP, num_steps / ENOUGH_STEPS), MAX_STEPS_PER_STEP)
    return max(1.0, pace * min(1.0, LARGEST_COARSE_SHARE / row_visit_fraction))


def observed_share(row_visit_fraction: float) -> float:
    """Share of the observed residual in a slot's target, on a set of a share r of the log's rows.

    A slot stands for 1/r rows: its own, whose label y is known, and 1/r − 1 like it, whose labels
    are p in the mean. All of them together ask for r·y + (1 − r)·p = p + r·(y − p). On sets of up
    to `LARGEST_SOFT_SHARE` it was found to do harm where labels are noise: so few of them are one
    draw of it.
    """
    return row_visit_fraction if row_visit_fraction > LARGEST_SOFT_SHARE else 0.0


def matched_recipe(
    *, num_rows_full: int, num_slots: int, steps_per_step: float | None = None
) -> Recipe:
    """One epoch in time order; every candidate keeps its batch size and rate, rescaled.

    `steps_per_step` is κ, by default `usual_pace`.

    A full run takes T steps of B rows. With r = num_slots / num_rows_full, a distilled run takes
    T / κ steps of κ·r·B rows, each standing for κ full ones. At r = 1 that is full training but for
    the bound on steps of the table.
    """
    r = min(1.0, num_slots / num_rows_full)
    pace = usual_pace(num_rows_full, r) if steps_per_step is None else steps_per_step
    return Recipe(
        batch_share=min(1.0, pace * r),
        residual_share=observed_share(r),
        steps_per_step=min(pace, 1.0 / r),
        row_visit_fraction=r,
        dense_drift=0.5,
        table_drift=0.5,
        bounded_table=True,
    )


def scaled_optimizer(optimizer: OptimizerConfig, steps_per_step: float) -> OptimizerConfig:
    """Adam's square-root rule for steps that stand for κ steps each.

    Learning rate and weight decay × √κ, 1 − β × κ (β at least 0), ε / √κ.
    """
    root = math.sqrt(steps_per_step)
    return replace(
        optimizer,
        learning_rate=optimizer.learning_rate * root,
        weight_decay=optimizer.weight_decay * root,
        beta1=max(0.0, 1.0 - steps_per_step * (1.0 - optimizer.beta1)),
        beta2=max(0.0, 1.0 - steps_per_step * (1.0 - optimizer.beta2)),
        epsilon=optimizer.epsilon / root,
    )
