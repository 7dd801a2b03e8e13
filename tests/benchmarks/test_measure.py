"""The laboratory's statistics tell a good method from a bad one, and neither from itself."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.laboratory.measure import figures, gain
from diet_ray.search.agreement import Arm

RNG = np.random.default_rng(0)
TRUTH = np.linspace(0.6, 0.7, 60)
FULL = Arm(
    ranking=TRUTH[:, None] + 0.001 * RNG.normal(size=(60, 3)),
    regret=TRUTH[:, None] + 0.001 * RNG.normal(size=(60, 3)),
    blocks=np.empty((60, 3, 0)),
)


def noisy(sd: float, seed: int) -> np.ndarray:
    return TRUTH[:, None] + sd * np.random.default_rng(seed).normal(size=(60, 2))


def test_a_better_method_gains_for_sure_and_a_worse_one_loses() -> None:
    good, bad = noisy(0.005, 1), noisy(0.1, 2)
    found = gain(FULL, good, {"bad": bad}, num_replicates=200)
    assert found["best_baseline"] == "bad"
    assert found["gain_low"] > 0.1
    assert gain(FULL, bad, {"good": good, "worse": noisy(1.0, 3)})["gain_high"] < -0.1


def test_alike_methods_are_not_told_apart() -> None:
    found = gain(FULL, noisy(0.03, 4), {"same": noisy(0.03, 5)}, num_replicates=400)
    assert found["gain_low"] < 0 < found["gain_high"]


def test_the_best_baseline_is_chosen_within_each_replicate() -> None:
    # Of many baselines as good as the method, some one is better by chance.
    many = {str(i): noisy(0.03, 10 + i) for i in range(12)}
    one = gain(FULL, noisy(0.03, 4), {"0": many["0"]}, num_replicates=200)
    assert gain(FULL, noisy(0.03, 4), many, num_replicates=200)["gain_high"] < one["gain_high"]


def test_figures_are_means_over_seeds() -> None:
    score = np.stack([TRUTH, -TRUTH], axis=1)
    found = figures(FULL, score)
    assert found["kendall_tau"] == pytest.approx(0.0, abs=1e-12)
    assert found["resolved_pair_accuracy"] == pytest.approx(0.5)
