"""The published points, and where a run stands among them."""

from __future__ import annotations

from typing import Any

import pytest

from diet_ray.report import figures as figs
from diet_ray.report.curve import CurvePoint, Standing, published, sentence, standing

POINTS = (
    CurvePoint(row_visit_fraction=0.01, logs=("a",), resolved_pair_accuracy=(0.85,)),
    CurvePoint(row_visit_fraction=0.02, logs=("a", "b"), resolved_pair_accuracy=(0.91, 0.87)),
)


def found(consistency: dict[str, Any], **changes: float) -> Standing:
    place = standing(figs.methods(consistency | changes), POINTS)
    assert place is not None
    return place


def test_what_ships_is_a_curve() -> None:
    points = published()
    costs = [p.row_visit_fraction for p in points]
    assert costs == sorted(set(costs))
    assert len(points) > 1
    for point in points:
        assert 0 < point.row_visit_fraction <= 1
        assert len(point.logs) == len(point.resolved_pair_accuracy) == len(set(point.logs)) > 0
        assert all(0.5 < a <= 1 for a in point.resolved_pair_accuracy)


def test_baselines_of_equal_cost_alone_stand_beside_the_run(consistency: dict[str, Any]) -> None:
    consistency["baselines"]["recent"]["row_visit_fraction"] = 0.0167 * 1.3
    consistency["baselines"]["early_stop"]["row_visit_fraction"] = 0.0167 / 1.2
    consistency["baselines"]["random_hard"]["resolved_pair_accuracy"] = None
    place = found(consistency)
    assert place.own.label == "distilled"
    assert {m.label for m in place.equal_cost} == {"random soft", "early stop"}


@pytest.mark.parametrize(
    ("accuracy", "where"), [(0.86, "below"), (0.87, "within"), (0.91, "within"), (0.93, "above")]
)
def test_a_run_is_held_against_the_point_of_the_nearest_cost(
    consistency: dict[str, Any], accuracy: float, where: str
) -> None:
    text = sentence(found(consistency, resolved_pair_accuracy=accuracy))
    assert text == (
        f"At 1/60 of the rows visited, this run puts {100 * accuracy:.1f} % of the resolved pairs "
        f"in full training’s order: {where} the 87.0 % to 91.0 % of the published logs at 1/50 "
        "(a, b). Of the baselines that visit as many, random soft has the most, 88.0 %."
    )
    # The geometric mean of 0.01 and 0.02 divides them.
    assert "the 85.0 % of" in sentence(found(consistency, row_visit_fraction=0.0141))
    assert "at 1/50 (a, b)" in sentence(found(consistency, row_visit_fraction=0.0142))


def test_no_baseline_of_equal_cost_is_said(consistency: dict[str, Any]) -> None:
    assert sentence(found(consistency | {"baselines": {}})).endswith(
        "No baseline visited as many rows."
    )


def test_no_place_without_both_figures_or_points(consistency: dict[str, Any]) -> None:
    for key in ("resolved_pair_accuracy", "row_visit_fraction"):
        assert standing(figs.methods(consistency | {key: None}), POINTS) is None
    assert standing(figs.methods(consistency), ()) is None
