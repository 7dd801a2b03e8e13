"""Timing by turns: every contender in every round, so that a slow moment slows all of them.

Seconds are the calling thread's on its core: other work on the machine doesn't count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from diet_ray.data.batch import Batch


@dataclass(frozen=True, kw_only=True)
class Contender:
    run: Callable[[Batch], object]
    num_rows: int
    """Rows of a round."""
    chunk_sizes: tuple[int, ...]
    """Rows at once, of which the fastest is taken."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    chunk_rows: int
    rows_per_s: np.ndarray
    """By round."""

    def over(self, other: Speed) -> float:
        """Median of the rounds' ratios."""
        return float(np.median(self.rows_per_s / other.rows_per_s))


def by_turns(contenders: Mapping[str, Contender], batch: Batch, rounds: int) -> dict[str, Speed]:
    """Speeds on the first rows of `batch`."""
    chunks = {name: _fastest_chunk(c, batch) for name, c in contenders.items()}
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for i in range(rounds):
        order = list(contenders) if i % 2 == 0 else list(reversed(contenders))
        for name in order:
            found[name].append(_rows_per_s(contenders[name], batch, chunks[name]))
    return {
        name: Speed(chunk_rows=chunks[name], rows_per_s=np.array(rates))
        for name, rates in found.items()
    }


def _fastest_chunk(contender: Contender, batch: Batch) -> int:
    sizes = [n for n in contender.chunk_sizes if n <= contender.num_rows] or [contender.num_rows]
    contender.run(batch[: sizes[0]])
    if len(sizes) == 1:
        return sizes[0]
    return max(sizes, key=lambda n: max(_rows_per_s(contender, batch, n) for _ in range(2)))


def _rows_per_s(contender: Contender, batch: Batch, chunk_rows: int) -> float:
    begin_s = time.thread_time()
    for i in range(0, contender.num_rows, chunk_rows):
        contender.run(batch[i : min(i + chunk_rows, contender.num_rows)])
    return contender.num_rows / (time.thread_time() - begin_s)
