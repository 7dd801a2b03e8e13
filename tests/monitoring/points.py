"""Figures of a stage, made up."""

from __future__ import annotations

from diet_ray.monitoring.observer import Rows, StagePoint


def point(number: int = 1, **changes: float) -> StagePoint:
    figures = {
        "rows_seen": 100 * number, "slots": 10 * number, "memory_bytes": 840, "lag_s": 3600.0,
        "log_loss": 0.5, "mean_influence": 0.25,
    }  # fmt: skip
    return StagePoint(number=number, num_stages=3, **(figures | changes))  # type: ignore[arg-type]


ROWS = Rows(done=150, total=300, per_s=50.0)
