"""How well one ranking of candidates agrees with another: pure functions on arrays.

Notation: n candidates, S seeds; `runs` (n, S) is a figure of merit per candidate and seed, higher
is better; `reference` (n,) are mean full-run figures, `score` (n,) what a method says. Pair
matrices are (n, n), symmetric, with an ignored diagonal. Whatever can't be computed is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]
PairMask = NDArray[np.bool_]

RESOLVED_STANDARD_ERRORS = 2.0
"""A pair is resolved when its means differ by more than this many standard errors."""


def distinct(identities: Sequence[str]) -> list[int]:
    """Indices of the first candidate of each identity: one model under two names counts once."""
    first: dict[str, int] = {}
    for i, identity in enumerate(identities):
        first.setdefault(identity, i)
    return list(first.values())


def pair_signs(values: Array) -> Array:
    """sign(values[i] - values[j]), (n, n)."""
    return np.sign(values[:, None] - values[None, :])


def kendall_tau(
    reference: Array, score: Array, pairs: Array | PairMask | None = None
) -> float | None:
    """Kendall's tau-b, Σ w·s·t / √(Σ w·s² · Σ w·t²) over pairs of signs s and t.

    `pairs` (n, n) weighs pairs (0 leaves one out); all count once without it. None if no pair is
    left or one side is tied throughout.
    """
    s, t = pair_signs(reference), pair_signs(score)
    weight = np.ones_like(s) if pairs is None else np.asarray(pairs, dtype=np.float64)
    norm = float(np.sum(weight * s * s) * np.sum(weight * t * t))
    return float(np.sum(weight * s * t) / np.sqrt(norm)) if norm > 0 else None


def spearman_rho(reference: Array, score: Array) -> float | None:
    """Pearson correlation of average ranks; None if one side is tied throughout."""
    a, b = rankdata(reference), rankdata(score)
    a, b = a - a.mean(), b - b.mean()
    norm = float((a @ a) * (b @ b))
    return float((a @ b) / np.sqrt(norm)) if norm > 0 else None


def pooled_seed_sd(runs: Array) -> float | None:
    """Root of the mean over candidates of the variance over seeds (n, S); None below 2 seeds."""
    if runs.shape[1] < 2 or runs.shape[0] == 0:
        return None
    return float(np.sqrt(np.mean(np.var(runs, axis=1, ddof=1))))


def resolved_pairs(means: Array, num_seeds: int, seed_sd: float | None) -> PairMask:
    """Pairs whose means over `num_seeds` differ by more than two standard errors, (n, n).

    The standard error of the difference of two such means is seed_sd · √(2 / num_seeds). No pair
    is resolved without a seed SD.
    """
    difference = np.abs(means[:, None] - means[None, :])
    if seed_sd is None:
        return np.zeros_like(difference, dtype=bool)
    return difference > RESOLVED_STANDARD_ERRORS * seed_sd * np.sqrt(2.0 / num_seeds)


def pair_accuracy(reference: Array, score: Array, pairs: Array | PairMask) -> float | None:
    """Share of the given pairs that `score` puts in the reference's order; its ties count half."""
    weight = np.asarray(pairs, dtype=np.float64)
    total = float(weight.sum())
    if total == 0:
        return None
    agreement = pair_signs(reference) * pair_signs(score)
    return float(np.sum(weight * (agreement + 1.0) / 2.0) / total)


def top1_regret(reference: Array, score: Array) -> float | None:
    """Best reference minus the reference of the top score; tied top scores are averaged."""
    if not len(reference):
        return None
    return float(reference.max() - reference[score == score.max()].mean())


def top_k_overlap(reference: Array, score: Array, k: int = 3) -> float | None:
    """Expected share of the reference's top k in the score's, ties broken at random.

    None below k candidates.
    """
    if len(reference) < k:
        return None
    return float(_top_k_probability(reference, k) @ _top_k_probability(score, k) / k)


def _top_k_probability(values: Array, k: int) -> Array:
    threshold = np.sort(values)[-k]
    above, tied = values > threshold, values == threshold
    return above + tied * ((k - above.sum()) / tied.sum())


def leave_one_seed_out(runs: Array) -> Iterator[tuple[Array, Array, PairMask]]:
    """Each seed against the mean of the others: (held out (n,), reference (n,), resolved (n, n)).

    Pairs are resolved on the other seeds. With three seeds or more the pooled seed SD is theirs
    too; with two it can only come from both seeds of all candidates, while the difference that it
    is held against is the other seed's. Yields nothing below two seeds.
    """
    num_seeds = runs.shape[1]
    for seed in range(num_seeds if num_seeds > 1 else 0):
        others = np.delete(runs, seed, axis=1)
        reference = others.mean(axis=1)
        seed_sd = pooled_seed_sd(others if num_seeds > 2 else runs)
        yield runs[:, seed], reference, resolved_pairs(reference, num_seeds - 1, seed_sd)


def mean_or_none(values: Sequence[float | None]) -> float | None:
    """The mean; None if there is no value or any is None."""
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def bootstrap_interval(
    statistic: Callable[[NDArray[np.int64], np.random.Generator], float | None],
    num_candidates: int,
    *,
    num_replicates: int = 500,
    level: float = 0.9,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile interval of a statistic over resampled candidates.

    `statistic(multiplicity, generator)` gets how often each candidate was drawn, (n,), and may
    draw seeds and blocks of time from the generator. Replicates that give None are left out; the
    interval is None if they are more than half.
    """
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(num_replicates if num_candidates else 0):
        draws = generator.integers(num_candidates, size=num_candidates)
        multiplicity = np.bincount(draws, minlength=num_candidates)
        value = statistic(multiplicity, generator)
        if value is not None:
            values.append(value)
    if not values or 2 * len(values) < num_replicates:
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
