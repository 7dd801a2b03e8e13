"""How fast a distilled run moves a model, held against how fast full training would.

Adam divides a step by the size of the gradient. In full training that size is mostly label noise;
on soft labels the noise is gone, so that the same learning rate takes a model elsewhere in the same
time. Notation, for a mini-batch: z logits, f = σ(z), t targets, y observed labels, r the distilled
run's row visits over the full run's. A full run of T steps at batch B moves a weight by about
lr·T·μ√B/σ_y, where μ is its mean gradient and σ_y² = mean (f − y)² the noise up to a factor. With
r·T·B visits under the square-root rule it moves by lr·T·μ√(rB)/σ_t, where σ_t² = mean (f − t)². So
the drift of both agrees if a distilled step is longer by

    c = √(σ_t² / (r σ_y²)),

while a step of length 1 keeps the noise of few rows as small as the noise of full training. An
exponent says where between the two a run stands: c⁰ matches the noise, c¹ the drift, c^½ is their
geometric mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MEMORY = 0.9
"""Of the running means of both residuals' squares."""
MAX_FACTOR = 8.0


@dataclass(frozen=True)
class StepFactors:
    """What a step's length is multiplied with."""

    dense: float
    table: float


NO_FACTORS = StepFactors(dense=1.0, table=1.0)


class DriftMatch:
    """Watches a distilled run's residuals and says by how much its next step is to be longer."""

    def __init__(
        self,
        row_visit_fraction: float,
        dense_exponent: float,
        table_exponent: float,
        bounded: bool = False,
    ) -> None:
        """`bounded`: steps of the table stay within reach, see `diet_ray.training.reach`."""
        self.bounded = bounded
        self._row_visit_fraction = row_visit_fraction
        self._dense_exponent = dense_exponent
        self._table_exponent = table_exponent
        self._target_square = self._label_square = 0.0
        self._num_steps = 0

    def state(self) -> tuple[float, float, int]:
        """Running means and how many mini-batches they are of; for `load_state`."""
        return self._target_square, self._label_square, self._num_steps

    def load_state(self, state: tuple[float, float, int]) -> None:
        self._target_square, self._label_square, self._num_steps = state

    @torch.no_grad()
    def factors(self, logit: Tensor, target: Tensor, label: Tensor) -> StepFactors:
        """For the mini-batch at hand: logits, targets and observed labels, (B,) each."""
        probability = torch.sigmoid(logit)
        squares = torch.stack([(probability - target).square(), (probability - label).square()])
        return self.observe(*squares.mean(dim=1).tolist())

    def observe(self, target_square: float, label_square: float) -> StepFactors:
        """For a mini-batch with these mean squared residuals."""
        memory = MEMORY if self._num_steps else 0.0
        self._num_steps += 1
        self._target_square = memory * self._target_square + (1 - memory) * target_square
        self._label_square = memory * self._label_square + (1 - memory) * label_square
        noise = max(self._row_visit_fraction * self._label_square, 1e-12)
        factor = min(max((self._target_square / noise) ** 0.5, 1.0), MAX_FACTOR)
        return StepFactors(dense=factor**self._dense_exponent, table=factor**self._table_exponent)
