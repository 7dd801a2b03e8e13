"""Stratified weighted sampling of a stage's rows, exactly mergeable over shards in any grouping.

Of a stratum's n slots, n_u = ⌈λn⌉ are drawn uniformly and the other n_s among the rows that are
left, in proportion to their score s_i (at least about; without replacement):

1. uniform: the n_u rows of smallest clock  U_i = −log u_i;
2. influence: of the rest, the n_s rows of smallest clock  K_i = −log v_i / s_i  (Efraimidis and
   Spirakis, "Weighted random sampling with a reservoir", 2006, in its exponential form),

u and v being independent hashes of (seed, row number). A row is drawn if it beats, in either draw,
the clock τ of the last row that would be drawn without it; both miss it with probability
exp(−τ_u)·exp(−s_i τ_s), so

    π_i = 1 − exp(−(τ_u + s_i τ_s)),

as if every row were drawn at the defensive mixture of a constant and its score (Hesterberg,
"Weighted average importance sampling and defensive mixture distributions", 1995). Totals weighted
by 1/π_i are unbiased (rank conditioning: Cohen and Kaplan, "Summarizing data using bottom-k
sketches", 2007). A winner weighs 1/π_i, scaled so that the weights of a stratum add up to its rows
exactly: the mass it stands for. As 1 − exp(−τ_u) ≈ λn/N, no weight exceeds about 1/λ times N/n.

Two draws instead of one clock at the mixed rate (1 − λ)·s_i + λ·mean, because the mean is known
only after the last shard: a clock would then depend on how a stage was cut, or on a stage before.
Here clocks are functions of the row alone, and a shard needs to send n + 2 rows of a stratum: its
n_u + 1 smallest U, and of its other rows the n_s + 1 smallest K. A row outside the first list is
in no union's first list either, so the second list holds every row that the union can choose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diet_ray.errors import ConfigError
from diet_ray.influence.hashing import mix, stream_key

_UNIFORM_STREAM, _INFLUENCE_STREAM = 1, 2
_SMALLEST_SCORE = 1e-30
"""A row of score 0 keeps a finite clock: last of all, yet in an order of its own."""


def uniform(seed: int, rows: np.ndarray, stream: int = 0) -> np.ndarray:
    """Numbers in (0, 1), float64, of row numbers (int64): a hash of (seed, stream, row)."""
    bits = mix(mix(rows) ^ stream_key(seed, stream))
    return ((bits >> 11 & ((1 << 53) - 1)) + 0.5) * 2.0**-53


def first_drawn(seed: int, rows: np.ndarray, share: float) -> np.ndarray:
    """Whether rows (int64) are among the `share` that a uniform draw takes first, bool."""
    return uniform(seed, rows, _UNIFORM_STREAM) >= 1.0 - share


def allocate(budget: int, rows_by_stratum: np.ndarray) -> np.ndarray:
    """Slots of every stratum (int64): proportional to its rows, by largest remainder.

    A stratum with rows gets at least one slot and none gets more than its rows; ties go to the
    lower stratum. Raises `ConfigError` if there are more non-empty strata than slots.
    """
    rows = np.asarray(rows_by_stratum, dtype=np.int64)
    num_strata = int((rows > 0).sum())
    if budget < num_strata:
        raise ConfigError(
            f"the budget gives a stage {budget} slots but its rows lie in {num_strata} strata: "
            "set a larger budget (fraction or slots), or longer stages"
        )
    if budget >= rows.sum():
        return rows
    slots = np.zeros_like(rows)
    open_strata = rows > 0
    while True:
        left, mass = budget - int(slots.sum()), int(rows[open_strata].sum())
        small = open_strata & (rows * left < mass)
        if not small.any():
            break
        slots[small] = 1
        open_strata &= ~small
    quota = np.where(open_strata, rows * left, 0)
    slots += quota // mass
    # A stable sort of the negated remainders: the largest first, then the lower stratum.
    order = np.argsort(-(quota % mass), kind="stable")
    slots[order[: budget - int(slots.sum())]] += 1
    return slots


@dataclass(frozen=True, kw_only=True)
class Reservoir:
    """How a stage's rows are drawn. Row arguments below are equally long and in any order.

    row: int64, position in the log; stratum: integer; score: at least 0, finite.
    """

    allocation: tuple[int, ...]
    """Slots of every stratum."""
    defensive_share: float
    """λ"""
    seed: int

    @classmethod
    def of_stage(
        cls, strata: Sequence[int], budget: int, defensive_share: float, seed: int
    ) -> Reservoir:
        """For a stage with `strata` rows in each stratum. Raises `ConfigError` as `allocate`."""
        allocation = allocate(budget, np.array(strata))
        return cls(
            allocation=tuple(allocation.tolist()), defensive_share=defensive_share, seed=seed
        )

    def candidates(self, row: np.ndarray, stratum: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Indices, ascending, of the rows that can win in, or bound, a union with other rows."""
        kept = [
            of[part]
            for s, of in _by_stratum(stratum)
            for part in self._split(s, row[of], self._clocks(row[of], score[of]), spare=1)
        ]
        return np.sort(np.concatenate(kept)) if kept else np.empty(0, np.int64)

    def winners(
        self,
        row: np.ndarray,
        stratum: np.ndarray,
        score: np.ndarray,
        rows_by_stratum: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the winners, by row number, and their weights (float64).

        The rows must hold every candidate of the stage; `rows_by_stratum` counts all its rows.
        """
        chosen, weights = [np.empty(0, np.int64)], [np.empty(0)]
        for s, of in _by_stratum(stratum):
            total = int(rows_by_stratum[s])
            if total <= self.allocation[s]:
                chosen.append(of)
                weights.append(np.ones(len(of)))
                continue
            index, probability = self.draw(s, row[of], score[of])
            chosen.append(of[index])
            weights.append(total / probability / (1.0 / probability).sum())
        index, weight = np.concatenate(chosen), np.concatenate(weights)
        order = np.argsort(row[index])
        return index[order], weight[order]

    def draw(
        self, stratum: int, row: np.ndarray, score: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the winners of one stratum, which has more rows than slots, and their
        probabilities π of winning."""
        clocks = self._clocks(row, score)
        first, second = self._split(stratum, row, clocks, spare=0)
        rate = _rate(score)
        rest = np.ones(len(row), dtype=bool)
        rest[first] = False
        exponent = np.empty(len(first) + len(second))
        if len(first):
            # Without a uniform winner, the row behind the bound would have been drawn in its stead
            # and not have competed for influence.
            bound = rest.nonzero()[0][clocks[0][rest].argmin()]
            rest[bound] = False
            others = np.sort(clocks[1][rest])[: len(second)]
            rest[bound] = True
            tau_s = others[-1] if len(second) else 0.0
            exponent[: len(first)] = clocks[0][bound] + rate[first] * tau_s
        if len(second):
            tau_u = clocks[0][first].max() if len(first) else 0.0
            rest[second] = False
            exponent[len(first) :] = tau_u + rate[second] * clocks[1][rest].min()
        return np.concatenate([first, second]), -np.expm1(-exponent)

    def influence_clock(self, row: np.ndarray, score: np.ndarray) -> np.ndarray:
        """K, float64."""
        return -np.log(uniform(self.seed, row, _INFLUENCE_STREAM)) / _rate(score)

    def _clocks(self, row: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """U and K."""
        uniform_clock = -np.log(uniform(self.seed, row, _UNIFORM_STREAM))
        return uniform_clock, self.influence_clock(row, score)

    def _split(
        self, stratum: int, row: np.ndarray, clocks: tuple[np.ndarray, np.ndarray], spare: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the two draws within one stratum, each with `spare` more."""
        slots = self.allocation[stratum]
        num_uniform = math.ceil(self.defensive_share * slots)
        first = _smallest(clocks[0], row, num_uniform + spare)
        rest = np.ones(len(row), dtype=bool)
        rest[first] = False
        left = rest.nonzero()[0]
        second = _smallest(clocks[1][left], row[left], slots - num_uniform + spare)
        return first, left[second]


def _rate(score: np.ndarray) -> np.ndarray:
    return np.maximum(np.asarray(score, dtype=np.float64), _SMALLEST_SCORE)


def _by_stratum(stratum: np.ndarray) -> list[tuple[int, np.ndarray]]:
    return [(int(s), np.flatnonzero(stratum == s)) for s in np.unique(stratum)]


def _smallest(clock: np.ndarray, row: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` smallest clocks; equal ones in order of row number."""
    if count >= len(clock):
        return np.arange(len(clock))
    if count == 0:
        return np.empty(0, np.int64)
    bound = np.partition(clock, count - 1)[count - 1]
    near = (clock <= bound).nonzero()[0]
    return near[np.lexsort((row[near], clock[near]))[:count]]
