"""Fidelity against cost of the shipped default on the published logs, and where a run stands.

`curve.json` holds what benchmarks/ranking.py measured (docs/results.md): a list of points, each the
rows a candidate visits, of a full run's, and the share of resolved pairs in order on each log.
"""

from __future__ import annotations

import importlib.resources
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from diet_ray.report import figures as figs
from diet_ray.report import format as fmt
from diet_ray.report.verdict import DEARER


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One size of the set; the accuracies are in the order of the logs."""

    row_visit_fraction: float
    logs: tuple[str, ...]
    resolved_pair_accuracy: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a method of a run costs and how well it orders."""

    label: str
    row_visit_fraction: float
    resolved_pair_accuracy: float


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A run among the published points."""

    published: tuple[CurvePoint, ...]
    """Cheapest first, at least one."""
    own: Mark
    equal_cost: tuple[Mark, ...]
    """Baselines that visit about as many rows."""


def published() -> tuple[CurvePoint, ...]:
    """The points that ship with the package, cheapest first."""
    text = importlib.resources.files("diet_ray.report").joinpath("curve.json").read_text("utf-8")
    points = [
        CurvePoint(
            row_visit_fraction=float(p["row_visit_fraction"]),
            logs=tuple(p["logs"]),
            resolved_pair_accuracy=tuple(map(float, p["resolved_pair_accuracy"])),
        )
        for p in json.loads(text)
    ]
    return tuple(sorted(points, key=lambda p: p.row_visit_fraction))


def standing(methods: Sequence[figs.Method], points: Sequence[CurvePoint]) -> Standing | None:
    """None without points, or if the distilled set among `methods` lacks accuracy or cost."""
    marks = {
        m.name: Mark(
            label=m.label,
            row_visit_fraction=m.row_visit_fraction,
            resolved_pair_accuracy=m.resolved_pair_accuracy,
        )
        for m in methods
        if m.resolved_pair_accuracy is not None and m.row_visit_fraction
    }
    own = marks.pop(figs.METHOD, None)
    if own is None or not points:
        return None
    near = math.log(DEARER)
    return Standing(
        published=tuple(points),
        own=own,
        equal_cost=tuple(
            m
            for m in marks.values()
            if _distance(m.row_visit_fraction, own.row_visit_fraction) <= near
        ),
    )


def sentence(found: Standing) -> str:
    """The run's figure beside the published ones of the nearest cost, and the best baseline's."""
    own = found.own
    nearest = min(
        found.published, key=lambda p: _distance(p.row_visit_fraction, own.row_visit_fraction)
    )
    low, high = min(nearest.resolved_pair_accuracy), max(nearest.resolved_pair_accuracy)
    accuracy = own.resolved_pair_accuracy
    where = "above" if accuracy > high else "below" if accuracy < low else "within"
    span = _percent(low) if low == high else f"{_percent(low)} to {_percent(high)}"
    text = (
        f"At {fmt.fraction(own.row_visit_fraction)} of the rows visited, this run puts "
        f"{_percent(accuracy)} of the resolved pairs in full training’s order: {where} the "
        f"{span} of the published logs at {fmt.fraction(nearest.row_visit_fraction)} "
        f"({', '.join(nearest.logs)})."
    )
    if not found.equal_cost:
        return f"{text} No baseline visited as many rows."
    best = max(found.equal_cost, key=lambda m: m.resolved_pair_accuracy)
    return (
        f"{text} Of the baselines that visit as many, {best.label} has the most, "
        f"{_percent(best.resolved_pair_accuracy)}."
    )


def _percent(accuracy: float) -> str:
    """One digit more than elsewhere, as accuracies lie close."""
    return f"{fmt.decimal(100 * accuracy, 1)} %"


def _distance(a: float, b: float) -> float:
    """How far two costs lie apart on a logarithmic scale."""
    return abs(math.log(a / b))
