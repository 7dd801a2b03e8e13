"""How well scores rank candidates, and whether one method beats all others for sure."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

from diet_ray.search.agreement import Arm, ceiling, fidelity
from diet_ray.search.statistics import Array, pair_accuracy, pooled_seed_sd, resolved_pairs

LEVEL = 0.95


def figures(full: Arm, score: Array) -> dict[str, Any]:
    """Agreement of scores (n, S), their mean over seeds, with the full runs."""
    found = fidelity(full, _mean(score))
    names = ("kendall_tau", "resolved_pair_accuracy", "top1_regret")
    single = [fidelity(full, score[:, s]) for s in range(score.shape[1])]
    means = {name: float(np.mean([f[name] for f in single])) for name in names}  # type: ignore[literal-required]
    return means | {f"{name}_of_mean": found[name] for name in names}  # type: ignore[literal-required]


def ceilings(full: Arm) -> dict[str, Any]:
    """What one more full run of every candidate would score."""
    return dict(ceiling(full))


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
    generator = np.random.default_rng(seed)
    num_candidates, num_seeds = full.ranking.shape
    resolved = resolved_pairs(full.ranking.mean(axis=1), num_seeds, pooled_seed_sd(full.ranking))
    gains = []
    for _ in range(num_replicates):
        count = np.bincount(
            generator.integers(num_candidates, size=num_candidates), minlength=num_candidates
        ).astype(float)
        weight = resolved * count[:, None] * count[None, :]
        drawn = generator.integers(num_seeds, size=num_seeds)
        reference = full.ranking[:, drawn].mean(axis=1)

        def accuracy(
            score: Array, reference: Array = reference, weight: Array = weight
        ) -> float | None:
            column = score[:, generator.integers(score.shape[1])]
            return pair_accuracy(reference, column, weight)

        ours = accuracy(method)
        theirs = [accuracy(b) for b in baselines.values()]
        if ours is not None and all(t is not None for t in theirs):
            gains.append(ours - max(t for t in theirs if t is not None))
    low, high = np.quantile(gains, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    means = {
        name: float(np.mean([pair_accuracy(full.ranking.mean(axis=1), s, resolved) for s in b.T]))
        for name, b in baselines.items()
    }
    best = max(means, key=lambda name: means[name])
    return {"best_baseline": best, "gain_low": float(low), "gain_high": float(high)}


def _mean(score: Array) -> Array:
    """Mean rank over seeds, as seeds may differ in level."""
    mean: Array = np.mean([rankdata(column) for column in score.T], axis=0)
    return mean
