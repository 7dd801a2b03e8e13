"""What goes wrong in one run, and when: all of it from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from diet_ray.memory.store import CRASH_POINTS
from tests.chaos.faults import Fault, FaultKind
from tests.chaos.workload import STEPS, WORKLOADS

Storage = Literal["disk", "disk, power loss", "files elsewhere", "object store"]
STORAGES: tuple[Storage, ...] = ("disk", "disk, power loss", "files elsewhere", "object store")
Fate = Literal["delivered", "dropped", "duplicated", "delayed duplicate", "answer lost"]
FATES: tuple[Fate, ...] = (
    "delivered",
    "dropped",
    "duplicated",
    "delayed duplicate",
    "answer lost",
)
_HONEST: tuple[FaultKind, ...] = (
    "error",
    "error after",
    "torn",
    "late",
    "full",
    "denied",
    "crash",
    "crash after",
    "crash torn",
)
_ELSEWHERE: tuple[FaultKind, ...] = (*_HONEST, "lie", "unreadable")
_SPAN = {"disk": 70, "disk, power loss": 70, "files elsewhere": 110, "object store": 70}
"""Operations among which faults fall: about those of an undisturbed run."""


@dataclass(frozen=True, kw_only=True)
class CrashPoint:
    """The memory's process dies at the `occurrence`-th passing of a point, counted over the whole
    schedule; the driver with it if `takes_driver`."""

    name: str
    occurrence: int
    takes_driver: bool


@dataclass(frozen=True, kw_only=True)
class Schedule:
    seed: int
    storage: Storage
    workload: str
    crash_points: tuple[CrashPoint, ...]
    driver_deaths: tuple[tuple[int, str], ...]
    """Steps of a stage, each at its first passing, at which the driver dies alone."""
    fates: tuple[float, ...]
    """Probabilities of `FATES` for every message."""
    faults: tuple[Fault, ...]

    @classmethod
    def of(cls, seed: int) -> Schedule:
        """Storages, workloads, crash points and steps take turns; the rest is drawn."""
        draw = np.random.default_rng(seed)
        storage = STORAGES[seed % len(STORAGES)]
        workload = sorted(WORKLOADS)[int(draw.choice(len(WORKLOADS), p=[0.35, 0.15, 0.5]))]
        crash_points = [
            CrashPoint(
                name=CRASH_POINTS[(seed // 4 + 5 * i) % len(CRASH_POINTS)],
                occurrence=int(draw.integers(1, 6)),
                takes_driver=bool(draw.random() < 0.4),
            )
            for i in range(int(draw.integers(0, 4)))
        ]
        deaths = [
            (int(draw.integers(0, 3)), STEPS[(seed // 4 + 3 * i) % len(STEPS)])
            for i in range(int(draw.integers(0, 3)))
        ]
        trouble = float(draw.choice([0.0, 0.1, 0.4]))
        fates = (1.0 - trouble, *[trouble / 4] * 4)
        kinds = _HONEST
        if not storage.startswith("disk"):
            # A disk of one's own isn't taken to lie: there a log's last record, which no other
            # follows, can't be told from one that a crash has torn.
            kinds = ("flip",) if draw.random() < 0.25 else _ELSEWHERE
        faults = [
            Fault(
                operation=int(draw.integers(1, _SPAN[storage])),
                kind=kinds[int(draw.integers(len(kinds)))],
            )
            for _ in range(int(draw.integers(0, 4)))
        ]
        return cls(
            seed=seed,
            storage=storage,
            workload=workload,
            crash_points=tuple(crash_points),
            driver_deaths=tuple(deaths),
            fates=fates,
            faults=tuple(faults),
        )
