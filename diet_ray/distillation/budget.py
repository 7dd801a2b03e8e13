"""How many slots the memory may hold, and how many a stage proposes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Effort = Literal["low", "medium", "high"]

FRACTIONS: dict[Effort, float] = {"low": 1 / 200, "medium": 1 / 100, "high": 1 / 15}
"""Slots for each row seen.

Points on the curve of fidelity against cost in docs/results.md. Training a candidate on the set
costs this share of training it on the log; reading and distilling the log costs the same at each.
"""


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """A named or a free share of the rows seen (the memory grows), or a fixed number of slots.

    Exactly one of `effort`, `fraction` and `slots`.
    """

    effort: Effort | None = None
    """How dear a candidate may be, of what full training visits: `low` 1/200 of the rows, for a
    first look at a wide space; `medium` 1/100; `high` 1/15, for candidates that are close."""
    fraction: float | None = None
    slots: int | None = None
    boundary_factor: float = 1.0
    """A stage proposes this many times its share; fusion brings the memory back to budget."""

    def __post_init__(self) -> None:
        given = [v for v in (self.effort, self.fraction, self.slots) if v is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of `effort`, `fraction` and `slots`")
        if self.effort is not None and self.effort not in FRACTIONS:
            raise ValueError(f"effort must be one of {', '.join(FRACTIONS)}")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise ValueError("fraction must lie in (0, 1]")
        if self.slots is not None and self.slots < 1:
            raise ValueError("slots must be at least 1")
        if self.boundary_factor < 1:
            raise ValueError("boundary_factor must be at least 1")

    @property
    def share(self) -> float | None:
        """Slots for each row seen, however it was said; None with a fixed number of slots."""
        return self.fraction if self.effort is None else FRACTIONS[self.effort]

    def capacity(self, rows_seen: int) -> int:
        """Slots that the memory may hold once `rows_seen` rows have been read."""
        if self.slots is not None:
            return min(self.slots, rows_seen)
        assert self.share is not None
        return round(self.share * rows_seen)

    def drawn(self, rows_before: int, stage_rows: int, num_strata: int) -> int:
        """Slots that a stage draws: what it proposes, at least one for each of its strata."""
        return min(stage_rows, max(num_strata, self.proposed(rows_before, stage_rows)))

    def proposed(self, rows_before: int, stage_rows: int) -> int:
        """Slots that a stage proposes: `boundary_factor` times its share of the capacity."""
        after = rows_before + stage_rows
        if self.slots is not None:
            share = self.capacity(after) * stage_rows / after
        else:
            share = self.capacity(after) - self.capacity(rows_before)
        return min(stage_rows, round(self.boundary_factor * share))
