"""The two sentences: true to the figures in every constellation."""

from __future__ import annotations

from typing import Any

import pytest

from diet_ray.report.verdict import verdict


def test_agreement_is_held_against_the_ceiling_of_the_same_references(
    consistency: dict[str, Any],
) -> None:
    agreement, _ = verdict(consistency)
    assert agreement == (
        "The distilled runs, at 1/60 of the rows visited, rank the 12 candidates with a tau of "
        "0.61; held to the same references, they score 0.59 where one more full training of each "
        "would score 0.72 (82 %)."
    )
    del consistency["kendall_tau_matched"]
    agreement, _ = verdict(consistency)
    assert (
        "a tau of 0.61, where one more full training of each would score 0.72 (85 %)." in agreement
    )


@pytest.mark.parametrize("tau", [0.0, -0.3])
def test_no_agreement_is_called_that(consistency: dict[str, Any], tau: float) -> None:
    agreement, _ = verdict(consistency | {"kendall_tau": tau})
    assert "do not rank the 12 candidates like full training" in agreement


def test_an_unreliable_reference_is_no_praise(consistency: dict[str, Any]) -> None:
    agreement, _ = verdict(consistency | {"kendall_tau_ceiling": 0.1, "kendall_tau": 0.9})
    assert agreement.startswith("Full training hardly agrees with itself")
    assert "%" not in agreement


def test_an_unknown_ceiling_or_tau_says_why(consistency: dict[str, Any]) -> None:
    agreement, _ = verdict(consistency | {"kendall_tau_ceiling": None})
    assert "is unknown: needs full runs with two seeds or more" in agreement
    agreement, _ = verdict(consistency | {"kendall_tau": None})
    assert "can’t be said: every candidate is tied, or there are fewer than two" in agreement
    assert all(verdict({}))


def test_the_best_baseline_is_named_with_its_cost_when_none_is_better(
    consistency: dict[str, Any],
) -> None:
    _, comparison = verdict(consistency)
    assert comparison == (
        "None of the 7 baselines ranks them better; the best is equal amortised (tau 0.57, at "
        "7.2 × the rows visited)."
    )


def test_better_baselines_are_said_plainly(consistency: dict[str, Any]) -> None:
    consistency["baselines"]["recent"]["kendall_tau"] = 0.80
    consistency["baselines"]["early_stop"]["kendall_tau"] = 0.70
    _, comparison = verdict(consistency)
    assert comparison == (
        "recent (tau 0.80) and early stop (0.70) rank the candidates better, and 5 of 7 baselines "
        "do not."
    )
    consistency["kendall_tau_interval"] = [0.4, 0.81]
    assert "(all within the uncertainty of the distilled runs’ own tau)" in verdict(consistency)[1]


def test_a_set_that_beats_nothing_does_not_earn_its_place(consistency: dict[str, Any]) -> None:
    _, comparison = verdict(consistency | {"kendall_tau": 0.1})
    assert comparison.endswith("so on this log the distilled set does not earn its place.")


def test_a_better_pick_is_told_if_it_is_more_than_noise(consistency: dict[str, Any]) -> None:
    consistency["baselines"]["halving"]["top1_regret"] = 0.0
    assert "picked" not in verdict(consistency)[1]  # 0.0004 is below the seed SD of 0.0006
    consistency["top1_regret"] = 0.0009
    assert "though halving would have picked a better candidate" in verdict(consistency)[1]


def test_a_tie_is_no_win(consistency: dict[str, Any]) -> None:
    consistency["baselines"]["recent"]["kendall_tau"] = consistency["kendall_tau"]
    assert verdict(consistency)[1] == (
        "None of the 7 baselines ranks them better, though recent does as well."
    )


def test_baselines_that_were_not_run_are_no_evidence(consistency: dict[str, Any]) -> None:
    _, comparison = verdict(consistency | {"baselines": {}})
    assert comparison.startswith("No baseline was run")
    consistency["baselines"]["recent"]["kendall_tau"] = None
    assert verdict(consistency)[1].endswith("(1 more could not be compared).")
