"""What scoring a log costs on a cluster, as a function of a few measured numbers.

    seconds = startup + max(busiest scorer, shards · dispatch) + bytes / bandwidth

A scorer spends rows / speed + overhead on a shard; shards go, in order, to whoever is free. The
driver hands out a shard in `dispatch` seconds and reads all answers at its bandwidth.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import nnls

TINY_S = 1e-12
"""Of a row or byte that costs nothing."""


@dataclass(frozen=True, kw_only=True)
class Run:
    shard_rows: tuple[int, ...]
    num_scorers: int
    num_bytes: int
    """That reach the driver."""
    startup_s: float
    """Until all scorers were ready."""
    seconds: float
    """From then on."""


@dataclass(frozen=True, kw_only=True)
class CostModel:
    startup_s: float
    """And what comes after the last shard."""
    rows_per_s: float
    """Of one scorer while it computes."""
    shard_overhead_s: float
    driver_bytes_per_s: float
    dispatch_s: float = 0.0
    """What a shard costs the driver; it hands out one at a time."""
    shard_bytes: int = 0
    """Of a shard's answer."""

    def seconds(self, shard_rows: Sequence[int], num_scorers: int, num_bytes: int) -> float:
        """Of scoring shards of these sizes, whose answers have `num_bytes` together."""
        shard_s = [rows / self.rows_per_s + self.shard_overhead_s for rows in shard_rows]
        scorer_s = sum(shard_s[i] for i in busiest(shard_s, num_scorers))
        driver_s = len(shard_rows) * self.dispatch_s
        return self.startup_s + max(scorer_s, driver_s) + num_bytes / self.driver_bytes_per_s

    def predict(self, num_rows: int, num_scorers: int, rows_per_s: float, shard_rows: int) -> float:
        """Seconds for a log of `num_rows`, by scorers of any speed."""
        whole, rest = divmod(num_rows, shard_rows)
        shards = [shard_rows] * whole + ([rest] if rest else [])
        model = replace(self, rows_per_s=rows_per_s)
        return model.seconds(shards, num_scorers, len(shards) * self.shard_bytes)


def fit(runs: Sequence[Run]) -> CostModel:
    """The numbers, none of them below 0, whose relative errors over `runs` are least.

    Start-up is their median, as it varies and can be seen.
    """
    seconds = np.array([run.seconds for run in runs])
    terms = np.array([_terms(run) for run in runs])
    scale = terms.max(axis=0)
    found, _ = nnls(terms / scale / seconds[:, None], np.ones(len(runs)))
    end_s, row_s, shard_s, byte_s = (float(x) for x in found / scale)
    return CostModel(
        startup_s=float(np.median([run.startup_s for run in runs])) + end_s,
        rows_per_s=1.0 / max(row_s, TINY_S),
        shard_overhead_s=shard_s,
        driver_bytes_per_s=1.0 / max(byte_s, TINY_S),
    )


def busiest(shard_s: Sequence[float], num_scorers: int) -> list[int]:
    """The shards of the scorer that ends last, where each goes to the one that is free first."""
    free = [(0.0, scorer) for scorer in range(num_scorers)]
    taken: list[list[int]] = [[] for _ in range(num_scorers)]
    for i, seconds in enumerate(shard_s):
        at_s, scorer = heapq.heappop(free)
        taken[scorer].append(i)
        heapq.heappush(free, (at_s + seconds, scorer))
    return taken[max(free)[1]]


def _terms(run: Run) -> tuple[float, ...]:
    """What the end, a row, a shard and a byte are multiplied by."""
    mine = busiest(run.shard_rows, run.num_scorers)
    return 1.0, float(sum(run.shard_rows[i] for i in mine)), float(len(mine)), float(run.num_bytes)
