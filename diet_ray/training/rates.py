"""Rates that change along a run, as population-based training finds them."""

from __future__ import annotations

from collections.abc import Callable

from diet_ray.models.catalogue import Candidate
from diet_ray.models.layers import set_dropout
from diet_ray.training.config import OptimizerConfig
from diet_ray.training.optimizer import ClickOptimizer


class RateFollower:
    """Keeps an optimiser and its model at the rates that its candidate has where a run stands."""

    def __init__(
        self,
        candidate: Candidate,
        optimizer: ClickOptimizer,
        rescaled: Callable[[OptimizerConfig], OptimizerConfig] = lambda config: config,
    ) -> None:
        """`rescaled` makes of the candidate's optimiser the one that the run takes, as `optimizer`
        and its model have been made: at the candidate's own rates."""
        self._candidate, self._optimizer, self._rescaled = candidate, optimizer, rescaled
        self._rates = candidate.first_rates

    def __call__(self, num_done: int, num_planned: int) -> None:
        """Before a step: so many of a run's steps or rows are done."""
        if not self._candidate.schedule:
            return
        rates = self._candidate.rates_at(num_done, num_planned)
        if rates != self._rates:
            self._rates = rates
            own = self._candidate.optimizer
            self._optimizer.config = self._rescaled(rates.applied_to(own))
            set_dropout(self._optimizer.model, rates.dropout)
