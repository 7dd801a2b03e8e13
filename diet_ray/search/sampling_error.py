"""How far AUCs on a sample of rows are from those on all rows, and how many rows are enough.

DeLong, DeLong, Clarke-Pearson: Comparing the Areas under Two or More Correlated Receiver Operating
Characteristic Curves: A Nonparametric Approach, Biometrics 1988. With V10 of a positive its share
of negatives below it, and V01 of a negative its share of positives above it,

    Var(A_i − A_j) = var(V10_i − V10_j) / m + var(V01_i − V01_j) / n

for m positives and n negatives. Models that are judged on the same rows err together, so this is
much below what their AUCs err by.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]
MIN_ROWS = 1_000
"""Fewer are never enough, whatever a pilot says."""


def placements(label: Array, score: Array) -> tuple[Array, Array]:
    """V10 (m,) of the positives and V01 (n,) of the negatives, ties counting half.

    label (N,) in {0, 1} with both classes; score (N,).
    """
    positive = label > 0.5
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    among_all = rankdata(score)
    of_positives = (among_all[positive] - rankdata(score[positive])) / num_negative
    of_negatives = 1.0 - (among_all[~positive] - rankdata(score[~positive])) / num_positive
    return of_positives, of_negatives


def difference_error(label: Array, scores: Sequence[Array]) -> float:
    """Standard error of a difference of AUCs that comes from the rows: root mean square over pairs.

    label (N,), two or more scores (N,) of the same rows.
    """
    found = [placements(label, score) for score in scores]
    variances = [
        sum(float(np.var(a - b, ddof=1)) / len(a) for a, b in zip(one, other, strict=True))
        for one, other in itertools.combinations(found, 2)
    ]
    return math.sqrt(sum(variances) / len(variances))


def rows_for_error(error: float, num_rows: int, bound: float) -> int:
    """Rows that bring a standard error, `error` on `num_rows` of them, down to `bound`."""
    return max(MIN_ROWS, math.ceil(num_rows * (error / bound) ** 2))
