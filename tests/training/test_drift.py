"""The factors by which a distilled step is longer, by hand, and what they do to an update."""

from __future__ import annotations

import pytest
import torch

from diet_ray.training.drift import MAX_FACTOR, MEMORY, DriftMatch, StepFactors

EVEN = torch.zeros(4)  # logits of probability one half
LABEL = torch.tensor([0.0, 1.0, 1.0, 0.0])


def test_the_factor_by_hand() -> None:
    # σ_t = 0.2, σ_y = 0.5, r = 0.01: c = 0.2 / (0.1 · 0.5) = 4.
    match = DriftMatch(0.01, dense_exponent=0.5, table_exponent=1.0)
    factors = match.factors(EVEN, torch.tensor([0.3, 0.7, 0.3, 0.7]), LABEL)
    assert factors.dense == pytest.approx(2.0)
    assert factors.table == pytest.approx(4.0)


def test_observed_labels_of_the_whole_log_change_nothing() -> None:
    match = DriftMatch(1.0, dense_exponent=0.5, table_exponent=1.0)
    assert match.factors(EVEN, LABEL, LABEL) == StepFactors(dense=1.0, table=1.0)


def test_steps_never_shrink_and_the_factor_is_bounded() -> None:
    exact = DriftMatch(0.01, dense_exponent=1.0, table_exponent=1.0)
    assert exact.factors(EVEN, torch.full((4,), 0.5), LABEL).dense == 1.0
    tiny = DriftMatch(1e-6, dense_exponent=1.0, table_exponent=1.0)
    assert tiny.factors(EVEN, LABEL, LABEL).dense == MAX_FACTOR


def test_residuals_are_remembered() -> None:
    match = DriftMatch(0.01, dense_exponent=1.0, table_exponent=1.0)
    match.factors(EVEN, torch.tensor([0.3, 0.7, 0.3, 0.7]), LABEL)
    later = match.factors(EVEN, torch.full((4,), 0.5), LABEL).dense
    assert later == pytest.approx(4.0 * MEMORY**0.5)
