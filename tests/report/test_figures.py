"""Reading `consistency.json`: figures with their ceilings, and reasons for what is missing."""

from __future__ import annotations

import math
from typing import Any

from diet_ray.report import figures as figs


def test_a_missing_figure_says_why(consistency: dict[str, Any]) -> None:
    consistency["kendall_tau_ceiling"] = None
    consistency["kendall_tau_matched"] = None
    consistency["resolved_pair_accuracy"] = math.nan
    del consistency["top3_overlap"]
    rows = {f.key: f for f in figs.figures(consistency)}
    assert rows["kendall_tau"].text == "0.61"
    assert rows["kendall_tau"].ceiling == rows["kendall_tau"].matched == "–"
    assert "ceiling: needs full runs with two seeds or more" in rows["kendall_tau"].why
    assert rows["resolved_pair_accuracy"].text == "–"
    assert "no pair of candidates is resolved" in rows["resolved_pair_accuracy"].why
    assert rows["top3_overlap"].text == "–"
    assert rows["top3_overlap"].why == "not recorded"
    assert rows["spearman_rho"].why == ""
    # A statistic without a ceiling of its own shows nothing there.
    assert rows["top3_overlap"].ceiling == ""


def test_intervals_are_shown_where_they_are(consistency: dict[str, Any]) -> None:
    consistency["spearman_rho_interval"] = None
    rows = {f.key: f for f in figs.figures(consistency)}
    assert rows["kendall_tau"].interval == "0.44 to 0.75"
    assert rows["resolved_pair_accuracy"].interval == "85 % to 99 %"
    assert rows["spearman_rho"].interval == "–"
    assert rows["top1_regret"].interval == ""


def test_methods_are_sorted_by_tau_and_the_skipped_say_why(consistency: dict[str, Any]) -> None:
    consistency["baselines"]["random_soft"] = {
        "kendall_tau": None,
        "details": {"skipped": "no proxy was given"},
    }
    consistency["baselines"]["mine"] = None
    rows = figs.methods(consistency)
    assert [r.name for r in rows[:2]] == ["distilled", "equal_amortised"]
    assert {r.name: r.why for r in rows[-2:]} == {
        "random_soft": "no proxy was given",
        "mine": "not run",
    }
    assert rows[0].seconds == 53.8


def test_every_baseline_of_the_search_is_described() -> None:
    from diet_ray.search.baselines import BASELINES

    assert set(figs.BASELINES) == set(BASELINES)


def test_parts_name_what_has_no_pairs(consistency: dict[str, Any]) -> None:
    rows = {p.label: p for p in figs.parts(consistency)}
    assert rows["Pairs of one architecture"].why == "no such pair"
    assert rows["Better half, by full runs"].kendall_tau == 0.42
    assert figs.parts({"kendall_tau": 0.5}) == []


def test_flatten_keeps_every_value() -> None:
    flat = figs.flatten({"a": {"b": [1, None, [2, 3]]}, "c": [{"d": True}], "e": {}, "f": []})
    assert flat == [("a.b", "1, –, (2, 3)"), ("c[0].d", "yes"), ("e", "–"), ("f", "–")]


def test_nothing_at_all_is_no_error() -> None:
    assert all(f.text == "–" and f.why for f in figs.figures({}))
    assert [m.name for m in figs.methods({})] == ["distilled"]
