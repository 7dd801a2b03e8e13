"""Rows a second and AUC of every leg, by turns.

A turn is an epoch of every leg from the first weights of one seed, so that a slow moment slows all
of them; whoever is first in one turn is last in the next.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.training.legs import Leg
from benchmarks.training.logs import Rows
from diet_ray.models.catalogue import Candidate
from diet_ray.training.metrics import auc

OURS = "ours"


@dataclass(frozen=True, kw_only=True)
class Turns:
    """Of one leg; an entry a turn."""

    cpu_rows_per_s: np.ndarray
    wall_rows_per_s: np.ndarray
    auc: np.ndarray

    def over(self, other: Turns) -> float:
        """Median of the turns' ratios of rows a CPU second."""
        return float(np.median(self.cpu_rows_per_s / other.cpu_rows_per_s))

    @property
    def summary(self) -> dict[str, Any]:
        return {
            "rows_per_cpu_s": round(float(np.median(self.cpu_rows_per_s))),
            "rows_per_s": round(float(np.median(self.wall_rows_per_s))),
            "auc": round(float(self.auc.mean()), 5),
            "auc_seed_sd": round(seed_sd(self.auc), 5),
        }


def by_turns(
    legs: Mapping[str, Leg],
    candidate: Candidate,
    rows: Rows,
    batch_size: int,
    seeds: Sequence[int],
) -> dict[str, Turns]:
    cpu: dict[str, list[float]] = {name: [] for name in legs}
    wall: dict[str, list[float]] = {name: [] for name in legs}
    areas: dict[str, list[float]] = {name: [] for name in legs}
    for turn, seed in enumerate(seeds):
        for name in list(legs) if turn % 2 == 0 else list(reversed(legs)):
            training = legs[name](candidate, rows, batch_size, seed)
            begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
            training.fit()
            cpu[name].append(len(rows.train) / (time.process_time() - begin_cpu_s))
            wall[name].append(len(rows.train) / (time.perf_counter() - begin_s))
            areas[name].append(auc(rows.test.label, training.scores()))
    return {
        name: Turns(
            cpu_rows_per_s=np.array(cpu[name]),
            wall_rows_per_s=np.array(wall[name]),
            auc=np.array(areas[name]),
        )
        for name in legs
    }


def over_fastest(turns: Mapping[str, Turns], library: str) -> float:
    """Ours over the faster of a library's legs, those whose names begin with its own."""
    own = [t for name, t in turns.items() if name.startswith(library)]
    return turns[OURS].over(max(own, key=lambda t: float(np.median(t.cpu_rows_per_s))))


def seed_sd(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
