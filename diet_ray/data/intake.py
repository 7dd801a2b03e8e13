"""What is done with rows that arrive late, early, twice or not at all, and with odd columns.

`docs/operations.md`, "What arrives broken", has the whole table of policies.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Literal

from diet_ray.errors import DataError


@dataclass(frozen=True, kw_only=True)
class IntakeConfig:
    max_dropped_share: float = 0.0
    """Rows older than one before them, and rows of the future, are left out as long as they are
    no larger share of the new rows than this; with 0 the first of them ends the run."""
    max_ahead_s: float | None = 86_400.0
    """A row may lie so far ahead of this machine's clock before it counts as one of the future;
    null: as far as it likes. One row of next year would make every later day's rows late."""
    duplicates: Literal["keep", "drop", "refuse"] = "keep"
    """Rows that equal an earlier one in every column that is read. A log whose clock is coarse may
    rightly hold such rows; `drop` costs one more pass when a log is prepared."""
    missing_days: Literal["warn", "refuse", "allow"] = "warn"
    """Days without a row between the first and the last, for stages `by: day`."""
    max_label_shift: float | None = 20.0
    """A stage is refused if the odds of a positive label are so many times higher or lower than
    over all rows before, and not by chance; null: whatever they are."""
    max_values: int = 100_000_000
    """Distinct values of one field's vocabulary, and users of one history."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.max_dropped_share < 1.0:
            raise ValueError("max_dropped_share must lie in [0, 1)")
        if self.max_ahead_s is not None and self.max_ahead_s < 0:
            raise ValueError("max_ahead_s must be at least 0, or null")
        if self.max_label_shift is not None and self.max_label_shift <= 1:
            raise ValueError("max_label_shift must be above 1, or null")
        if self.max_values < 1:
            raise ValueError("max_values must be at least 1")

    @property
    def may_drop(self) -> bool:
        """Whether fewer rows may come out than the files hold."""
        return self.max_dropped_share > 0 or self.duplicates == "drop"


@dataclass(kw_only=True)
class Dropped:
    """Counts what was left out of the new rows."""

    num_rows: int = 0
    """That were read."""
    num_late: int = 0
    num_ahead: int = 0
    num_duplicates: int = 0
    examples: list[str] = field(default_factory=list)
    """Where the first late and the first early row stand."""

    def check(self, config: IntakeConfig) -> None:
        """Raises `DataError` if too many rows had a wrong time; else warns of all that are left
        out."""
        num_wrong = self.num_late + self.num_ahead
        if num_wrong > config.max_dropped_share * self.num_rows:
            raise DataError(
                f"{self.num_late} late rows and {self.num_ahead} rows of the future are more than "
                f"`intake: max_dropped_share` allows of {self.num_rows} ({self.examples[0]}); mend "
                "the log, or set `sort: true` if it isn't in time order"
            )
        if num_wrong or self.num_duplicates:
            warnings.warn(
                f"left out of {self.num_rows} rows: {self.num_late} late, {self.num_ahead} of the "
                f"future, {self.num_duplicates} duplicates",
                stacklevel=2,
            )
