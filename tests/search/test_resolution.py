"""Noise and places by hand, and what must hold for any scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from diet_ray.search import resolution as module
from diet_ray.search.resolution import resolution


def around(means: list[float], half: float = 1.0) -> np.ndarray:
    """Two seeds, `half` below and above each mean: a seed SD of √2 · half."""
    return np.array([[m - half, m + half] for m in means])


def test_noise_and_places_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESOLUTION_SDS", 2.0)
    # Threshold 2 · √2 · √(2/2): 10 and 8 are one, 8 and 6 too, 10 and 6 aren't.
    found = resolution(around([8.0, 10.0, 1.0, 6.0]))
    assert found is not None
    assert found.seed_sd == pytest.approx(2**0.5)
    assert found.threshold == pytest.approx(2 * 2**0.5)
    assert (found.num_pairs, found.num_unresolved_pairs) == (6, 2)
    assert found.places == ((1, 3), (1, 2), (4, 4), (2, 3))


def test_more_seeds_resolve_more() -> None:
    two = resolution(around([1.0, 0.0]))
    eight = resolution(np.repeat(around([1.0, 0.0]), 4, axis=1))
    assert two is not None
    assert eight is not None
    # The SD of eight such seeds is √(8/7), of two √2.
    assert eight.threshold / two.threshold == pytest.approx((8 / 7 / 8) ** 0.5)
    assert two.num_unresolved_pairs == 1


def test_the_constant_scales_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = around([10.0, 6.0])
    monkeypatch.setattr(module, "RESOLUTION_SDS", 2.0)
    narrow = resolution(scores)
    monkeypatch.setattr(module, "RESOLUTION_SDS", 3.0)
    wide = resolution(scores)
    assert narrow is not None
    assert wide is not None
    assert wide.threshold == pytest.approx(1.5 * narrow.threshold)
    assert (narrow.num_unresolved_pairs, wide.num_unresolved_pairs) == (0, 1)
    assert wide.places == ((1, 2), (1, 2))


def test_one_seed_or_no_candidate_says_nothing() -> None:
    assert resolution(np.array([[0.7], [0.6]])) is None
    assert resolution(np.empty((0, 2))) is None


def test_without_noise_only_ties_are_open() -> None:
    found = resolution(around([3.0, 2.0, 2.0], half=0.0))
    assert found is not None
    assert found.threshold == 0.0
    assert found.places == ((1, 1), (2, 3), (2, 3))


def test_those_judged_less_often_are_not_compared() -> None:
    scores = around([9.0, 1.0, 5.0, 4.0], half=0.01)
    found = resolution(scores, np.array([1, 4, 4, 1]))
    assert found is not None
    assert (found.num_pairs, found.num_unresolved_pairs) == (2, 0)
    # 9 at the first report isn't better than 1 at the last, nor worse.
    assert found.places == ((1, 3), (2, 4), (1, 3), (2, 4))


all_scores = st.tuples(st.integers(1, 9), st.integers(2, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(0, 8).map(float))
)


@given(scores=all_scores, seed=st.integers(0, 99))
def test_of_any_scores(scores: np.ndarray, seed: int) -> None:
    found = resolution(scores)
    assert found is not None
    means = scores.mean(axis=1)
    for mean, (best, worst) in zip(means, found.places, strict=True):
        # Wherever ties put it, a candidate's place by mean is one that it may hold.
        assert best <= 1 + np.sum(means > mean)
        assert worst >= len(means) - np.sum(means < mean)
    # An open pair is one place that either may win and one that either may lose.
    assert sum(w - b for b, w in found.places) == 2 * found.num_unresolved_pairs
    order = np.random.default_rng(seed).permutation(len(scores))
    again = resolution(scores[order])
    assert again is not None
    assert again.places == tuple(found.places[i] for i in order)


@given(scores=all_scores, seed=st.integers(0, 99))
def test_uncompared_pairs_only_widen_places(scores: np.ndarray, seed: int) -> None:
    whole = resolution(scores)
    reports = np.random.default_rng(seed).integers(1, 4, size=len(scores))
    part = resolution(scores, reports)
    assert whole is not None
    assert part is not None
    assert part.num_pairs <= whole.num_pairs
    for (best, worst), (low, high) in zip(whole.places, part.places, strict=True):
        assert low <= best <= worst <= high
