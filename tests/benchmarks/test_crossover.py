from __future__ import annotations

from typing import Any

import pytest

from benchmarks.laboratory.crossover import crossover


def point(fraction: float, own: float, subsample: float, halving: float | None) -> dict[str, Any]:
    rivals = {"subsample": {"resolved_pair_accuracy": subsample}}
    if halving is not None:
        rivals["halving"] = {"resolved_pair_accuracy": halving}
    return {
        "fraction": fraction,
        "row_visit_fraction": fraction,
        "resolved_pair_accuracy": own,
        "baselines": rivals,
        "auc": [[0.5]] * 4,
        "full_seconds": 40.0,
        "distilled_seconds": 2.0,
        "distill_seconds": 60.0,
    }


# Sub-sampling gains 0.1 for every tenfold cost.
POINTS = [point(0.01, 0.9, 0.75, 0.95), point(0.1, 0.95, 0.85, 0.96), point(1.0, 0.99, 0.95, None)]


def test_the_fewest_candidates_that_pay_for_the_distillation() -> None:
    # 0.9 is what sub-sampling has at a cost of 10^-0.5; the set costs 0.01 + 3 / N.
    found = crossover(POINTS, 0.01, passes=3.0)["by_visits"]
    fewest = int(3.0 / (10**-0.5 - 0.01)) + 1
    assert found["subsample"] == {"candidates": fewest, "at_most": False}
    assert found["halving"] == {"candidates": None, "at_most": False}


def test_where_the_curve_ends_the_answer_is_a_bound() -> None:
    # Up to a cost of 0.1 nothing is known of sub-sampling, and there it is worse already.
    found = crossover(POINTS[:2], 0.01, passes=3.0)["by_visits"]
    assert found["subsample"] == {"candidates": int(3.0 / 0.09) + 1, "at_most": True}
    assert crossover(POINTS[:1], 0.01, passes=99.0)["by_visits"]["subsample"] == {
        "candidates": None,
        "at_most": True,
    }


def test_a_set_as_dear_as_a_full_pass_pays_never() -> None:
    worse = [point(0.01, 0.7, 0.75, 0.7), *POINTS[1:]]
    assert crossover(worse, 0.01, passes=3.0)["by_visits"]["subsample"]["candidates"] is None
    assert crossover(POINTS, 0.1, passes=0.0)["by_visits"]["subsample"]["candidates"] == 1


def test_the_size_must_have_been_measured() -> None:
    with pytest.raises(StopIteration):
        crossover(POINTS, 0.02, passes=3.0)


def test_without_a_rival_nothing_is_known() -> None:
    found = crossover([point(0.01, 0.9, 0.75, None)], 0.01, passes=3.0)
    assert found["by_visits"]["halving"] == {"candidates": None, "at_most": True}


def test_time_counts_as_visits_do() -> None:
    # A distilled run takes a twentieth of a full one's 10 s, the distillation 6 of them.
    found = crossover(POINTS, 0.01, passes=3.0)["by_cpu_time"]
    assert found["passes"] == 6.0
    assert found["subsample"] == {"candidates": int(6.0 / (10**-0.5 - 0.05)) + 1, "at_most": False}
