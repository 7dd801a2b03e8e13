"""How many slots the memory may hold, and how many a stage proposes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """A share of the rows seen (the memory grows), or a fixed number of slots."""

    fraction: float | None = None
    slots: int | None = None
    boundary_factor: float = 1.0
    """A stage proposes this many times its share; fusion brings the memory back to budget."""

    def __post_init__(self) -> None:
        if (self.fraction is None) == (self.slots is None):
            raise ValueError("give either `fraction` or `slots`")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise ValueError("fraction must lie in (0, 1]")
        if self.slots is not None and self.slots < 1:
            raise ValueError("slots must be at least 1")
        if self.boundary_factor < 1:
            raise ValueError("boundary_factor must be at least 1")

    def capacity(self, rows_seen: int) -> int:
        """Slots that the memory may hold once `rows_seen` rows have been read."""
        if self.slots is not None:
            return min(self.slots, rows_seen)
        assert self.fraction is not None
        return round(self.fraction * rows_seen)

    def proposed(self, rows_before: int, stage_rows: int) -> int:
        """Slots that a stage proposes: `boundary_factor` times its share of the capacity."""
        after = rows_before + stage_rows
        if self.slots is not None:
            share = self.capacity(after) * stage_rows / after
        else:
            share = self.capacity(after) - self.capacity(rows_before)
        return min(stage_rows, round(self.boundary_factor * share))
