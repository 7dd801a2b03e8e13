"""The error that a sample of rows brings into differences of AUCs."""

from __future__ import annotations

import numpy as np
import pytest

from diet_ray.search.sampling_error import (
    MIN_ROWS,
    difference_error,
    placements,
    rows_for_error,
)
from diet_ray.training.metrics import auc


def rows(num_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and two models' scores, which have much in common."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=num_rows)
    label = (rng.random(num_rows) < 1 / (1 + np.exp(-truth))).astype(float)
    return label, truth + 0.5 * rng.normal(size=num_rows), truth + 0.7 * rng.normal(size=num_rows)


def test_placements_by_hand() -> None:
    label = np.array([1.0, 0.0, 1.0, 0.0])
    score = np.array([0.3, 0.3, 0.1, 0.2])
    of_positives, of_negatives = placements(label, score)
    assert of_positives.tolist() == [0.75, 0.0]
    assert of_negatives.tolist() == [0.25, 0.5]


def test_the_mean_placement_is_the_auc() -> None:
    label, score, _ = rows(300, seed=0)
    score = np.round(score, 1)
    for values in placements(label, score):
        assert values.mean() == pytest.approx(auc(label, score))


def test_the_error_is_that_of_repeated_samples() -> None:
    samples = [rows(800, seed) for seed in range(400)]
    differences = [auc(y, a) - auc(y, b) for y, a, b in samples]
    errors = [difference_error(y, [a, b]) for y, a, b in samples[:50]]
    assert np.mean(errors) == pytest.approx(np.std(differences, ddof=1), rel=0.1)


def test_models_that_agree_have_no_error_of_their_difference() -> None:
    label, score, other = rows(200, seed=1)
    assert difference_error(label, [score, 3 * score]) == 0.0
    assert difference_error(label, [score, other]) > 0.0


def test_four_times_the_rows_for_half_the_error() -> None:
    assert rows_for_error(0.004, 5_000, 0.002) == 20_000
    assert rows_for_error(1e-9, 5_000, 0.002) == MIN_ROWS
