"""Figures measured in several calls end in one report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.laboratory.reports import LogReport


def point(fraction: float, resolved: float) -> dict[str, Any]:
    return {
        "fraction": fraction,
        "row_visit_fraction": fraction,
        "resolved_pair_accuracy": resolved,
        "baselines": {"subsample": {"resolved_pair_accuracy": 0.5}},
        "auc": [[0.6], [0.7]],
        "full_seconds": 20.0,
        "distilled_seconds": 1.0,
        "distill_seconds": 30.0,
    }


def test_parts_add_up_over_calls_and_the_default_size_is_on_top(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "log.json"
    LogReport(path).put_point(point(0.05, 0.9))
    LogReport(path).put_point(point(0.01, 0.7))
    LogReport(path).put(recipes=[0.8])
    found = LogReport(path).figures(0.011, passes=3.0)
    assert [p["fraction"] for p in found["curve"]] == [0.01, 0.05]
    assert (found["resolved_pair_accuracy"], found["recipes"]) == (0.7, [0.8])
    assert found["crossover"]["fraction"] == 0.01


def test_a_size_measured_again_replaces_the_old_one(tmp_path: Path) -> None:
    report = LogReport(tmp_path / "log.json")
    report.put_point(point(0.01, 0.7))
    report.put_point(point(0.01, 0.8))
    assert [p["resolved_pair_accuracy"] for p in report.figures(0.01, 3.0)["curve"]] == [0.8]


def test_a_report_begins_with_the_known_one_and_leaves_it_as_it_is(tmp_path: Path) -> None:
    known, path = tmp_path / "known.json", tmp_path / "log.json"
    LogReport(known).put_point(point(0.01, 0.7))
    LogReport(path, known).put_point(point(0.05, 0.9))
    assert len(LogReport(path, known).figures(0.01, 3.0)["curve"]) == 2
    assert len(LogReport(known).figures(0.01, 3.0)["curve"]) == 1


def test_parts_of_other_candidates_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    report = LogReport(path)
    report.begin(["a", "b"])
    report.put_point(point(0.01, 0.7))
    LogReport(path).begin(["a", "b"])
    assert len(LogReport(path).figures(0.01, 3.0)["curve"]) == 1
    LogReport(path).begin(["a", "c"])
    assert LogReport(path).figures(0.01, 3.0) == {}


def test_nothing_is_said_of_a_log_without_a_point(tmp_path: Path) -> None:
    assert LogReport(tmp_path / "log.json").figures(0.01, 3.0) == {}
