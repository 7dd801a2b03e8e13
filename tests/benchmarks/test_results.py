"""The tables of docs/results.md say what was measured, and nothing where nothing was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.laboratory.results import write_results

ROOT = Path(__file__).parents[2]


def size(fraction: float, accuracy: float) -> dict[str, Any]:
    return {
        "fraction": fraction,
        "row_fraction": fraction,
        "byte_fraction": 0.0116,
        "row_visit_fraction": fraction,
        "kendall_tau": 0.625,
        "kendall_tau_ceiling": 0.75,
        "kendall_tau_matched": 0.6,
        "resolved_pair_accuracy": accuracy,
        "resolved_pair_accuracy_ceiling": 0.97,
        "resolved_pair_accuracy_matched": 0.92,
        "top1_regret": 0.0012,
        "seed_sd": 0.0007,
        "best_baseline": "random_soft",
        "gain_low": -0.031,
        "gain_high": 0.022,
        "best_baseline_without_proxies": "halving",
        "gain_low_without_proxies": 0.081,
        "gain_high_without_proxies": 0.142,
        "full_seconds": 100.0,
        "distilled_seconds": 4.0,
        "controls": {
            "kendall_tau": 0.01,
            "resolved_pair_accuracy": 0.51,
            "favour_of_proxy_families": -2.5,
        },
        "baselines": {"random_soft": {"resolved_pair_accuracy": 0.925}},
        "auc": [[0.6], [0.7], [0.65]],
    }


def report() -> dict[str, Any]:
    curve = [size(0.01, 0.913), size(0.1, 0.951)]
    full = [[0.61, 0.62], [0.71, 0.72], [0.66, 0.67]]
    return {"crosses": curve[0] | {"curve": curve, "full_auc": full}}


def test_measured_parts_are_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    text = tmp_path / "results.md"
    text.write_text(
        "# Results\n\n<!-- measured: headline -->\nold\n<!-- end -->\n\nSaid by hand.\n\n"
        "<!-- measured: curve -->\n<!-- end -->\n\n<!-- measured: stream -->\n<!-- end -->\n"
    )
    write_results(report(), {}, text, tmp_path / "plots")
    content = text.read_text()
    assert "old" not in content
    assert "Said by hand." in content
    headline = "1.16 % | 1/100 | 0.625 | 0.750 | 80 % | 0.913 | 0.970 | 95 % |"
    assert f"| crosses | 1.00 % | {headline}" in content
    assert "| random_soft | -0.031 to +0.022 | halving | +0.081 to +0.142 |" in content
    assert "| crosses | 0.62 / 0.913 (25 ×) | 0.62 / 0.951 (25 ×) |" in content
    assert "Not measured yet." in content
    assert (tmp_path / "plots" / "crosses.svg").read_text().startswith("<?xml")
    write_results(report(), {}, text, tmp_path / "plots")
    assert text.read_text() == content


@pytest.mark.parametrize(
    "part", ["headline", "curve", "baselines", "ablation", "families", "recipes", "anchors"]
)
def test_the_projects_page_has_a_place_for_every_table(part: str) -> None:
    assert f"<!-- measured: {part} -->" in (ROOT / "docs/results.md").read_text(encoding="utf-8")
