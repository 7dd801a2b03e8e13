"""How the agreement went while the log grew: comparisons of one run, by rows of the full log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diet_ray.errors import DataError
from diet_ray.report import figures as figs
from diet_ray.report.document import load_consistency

_EARLIER = "earlier"


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One comparison."""

    num_rows: float
    """Of the full log then."""
    kendall_tau: float
    interval: tuple[float, float] | None
    kendall_tau_ceiling: float | None


def moments(comparisons: Sequence[Mapping[str, Any]]) -> list[Moment]:
    """Those with a tau, by rows; of two with as many rows the later in the sequence."""
    found = {}
    for comparison in comparisons:
        num_rows = figs.number(comparison, "num_rows_full")
        tau = figs.number(comparison, "kendall_tau")
        if num_rows is not None and tau is not None:
            found[num_rows] = Moment(
                num_rows=num_rows,
                kendall_tau=tau,
                interval=figs.interval_bounds(comparison, "kendall_tau"),
                kendall_tau_ceiling=figs.number(comparison, "kendall_tau_ceiling"),
            )
    return [found[n] for n in sorted(found)]


def keep_earlier(path: Path, num_rows_full: int) -> None:
    """Puts the `consistency.json` at `path` aside if it is of another length of the log."""
    if not path.exists():
        return
    try:
        num_rows = figs.number(load_consistency(path), "num_rows_full")
    except DataError:
        # A broken file is about to be replaced by a whole one.
        return
    if num_rows is not None and num_rows != num_rows_full:
        folder = path.parent / _EARLIER
        folder.mkdir(exist_ok=True)
        path.replace(folder / f"{round(num_rows):012d}.json")


def load_earlier(path: Path) -> list[dict[str, Any]]:
    """What was put aside beside a `consistency.json`, shortest log first. Raises `DataError`."""
    return [load_consistency(p) for p in sorted((path.parent / _EARLIER).glob("*.json"))]
