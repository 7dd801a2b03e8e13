"""How well scores rank candidates, and whether one method beats all others for sure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from diet_ray.search.agreement import Arm, fidelity, pair_weights, resolved_of
from diet_ray.search.statistics import Array, bootstrap_interval, pair_accuracy

LEVEL = 0.95


def figures(full: Arm, score: Array) -> dict[str, Any]:
    """Agreement of scores (n, S), their mean over seeds, with the full runs."""
    found = fidelity(full, mean_rank(score))
    names = ("kendall_tau", "resolved_pair_accuracy", "top1_regret")
    # Held against a ceiling: both face references that are the mean of all seeds but one.
    names += ("kendall_tau_matched", "resolved_pair_accuracy_matched")
    single = [fidelity(full, score[:, s]) for s in range(score.shape[1])]
    means = {name: float(np.mean([f[name] for f in single])) for name in names}  # type: ignore[literal-required]
    return means | {f"{name}_of_mean": found[name] for name in names}  # type: ignore[literal-required]


def gain(
    full: Arm,
    method: Array,
    baselines: dict[str, Array],
    *,
    num_replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """By how much `method` (n, S) beats the best baseline in resolved pairs, 95 % interval.

    A replicate draws candidates (as pair weights), one seed of every method, and seeds of the full
    runs; the best baseline is chosen within each replicate. Which pairs are resolved stays as the
    full runs say. A method is used with one seed, so that is what is compared.
    """
    pairs = resolved_of(full)
    num_candidates, num_seeds = full.ranking.shape

    def one_gain(multiplicity: NDArray[np.int64], generator: np.random.Generator) -> float | None:
        weight = pairs * pair_weights(multiplicity)
        reference = full.ranking[:, generator.integers(num_seeds, size=num_seeds)].mean(axis=1)
        found = [
            pair_accuracy(reference, score[:, generator.integers(score.shape[1])], weight)
            for score in (method, *baselines.values())
        ]
        known = [accuracy for accuracy in found if accuracy is not None]
        return known[0] - max(known[1:]) if len(known) == len(found) else None

    interval = bootstrap_interval(
        one_gain, num_candidates, num_replicates=num_replicates, level=LEVEL, seed=seed
    )
    low, high = interval if interval is not None else (None, None)
    reference = full.ranking.mean(axis=1)
    means = {
        name: np.mean([pair_accuracy(reference, column, pairs) for column in b.T])
        for name, b in baselines.items()
    }
    best = max(means, key=lambda name: means[name])
    return {"best_baseline": best, "gain_low": low, "gain_high": high}


def mean_rank(score: Array) -> Array:
    """Mean rank over seeds, as seeds may differ in level."""
    mean: Array = np.mean([rankdata(column) for column in score.T], axis=0)
    return mean
