"""Which differences between distilled scores are more than noise: pure functions on arrays.

Notation: n candidates, S seeds; `scores` (n, S) is a candidate's AUC with each seed, higher is
better. A pair is *resolved* when its means over seeds differ by more than the threshold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diet_ray.search.statistics import Array, pooled_seed_sd

RESOLUTION_SDS = 2.0
"""A difference of means is resolved beyond this many standard errors √(2 / S) · seed SD.

It is about the noise of distilled runs alone. How a ranking moves from the set to the log is no
matter of seeds: of the pairs beyond 2 standard errors, 92 % were in the order of full runs on seven
logs, 88 % on the worst (docs/results.md).
"""


@dataclass(frozen=True, kw_only=True)
class Resolution:
    seed_sd: float
    """Pooled over candidates."""
    threshold: float
    """The largest difference of mean AUC that noise explains."""
    num_pairs: int
    """Pairs that are compared at all."""
    num_unresolved_pairs: int
    places: tuple[tuple[int, int], ...]
    """(best, worst) place that each candidate may hold, 1 the first; in the candidates' order."""


def resolution(scores: Array, num_reports: NDArray[np.int64] | None = None) -> Resolution | None:
    """What `scores` (n, S) resolve; None below two seeds, which leave noise unknown.

    `num_reports` (n,) is how often a scheduler judged each candidate: only those judged equally
    often are compared, as a stopped one had less training. A pair that isn't compared bounds
    neither's place.
    """
    seed_sd = pooled_seed_sd(scores)
    if seed_sd is None:
        return None
    num_candidates, num_seeds = scores.shape
    threshold = RESOLUTION_SDS * seed_sd * math.sqrt(2 / num_seeds)
    reports = np.zeros(num_candidates) if num_reports is None else num_reports
    compared = reports[:, None] == reports[None, :]
    means = scores.mean(axis=1)
    above = compared & (means[:, None] - means[None, :] > threshold)
    num_pairs = int(np.triu(compared, k=1).sum())
    best = 1 + above.sum(axis=0)
    worst = num_candidates - above.sum(axis=1)
    return Resolution(
        seed_sd=seed_sd,
        threshold=threshold,
        num_pairs=num_pairs,
        num_unresolved_pairs=num_pairs - int(above.sum()),
        places=tuple(zip(best.tolist(), worst.tolist(), strict=True)),
    )
