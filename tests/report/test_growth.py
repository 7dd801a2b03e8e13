"""Comparisons of a run that grew: kept aside, found again, in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diet_ray.errors import DataError
from diet_ray.report.growth import keep_earlier, load_earlier, moments


def comparison(num_rows: int, tau: float | None = 0.5) -> dict[str, Any]:
    return {"num_rows_full": num_rows, "kendall_tau": tau, "kendall_tau_interval": [0.1, 0.9]}


def test_only_a_comparison_of_another_length_is_put_aside(tmp_path: Path) -> None:
    file = tmp_path / "consistency.json"
    keep_earlier(file, 900)
    for num_rows in (900, 1100, 1100, 10_000):
        keep_earlier(file, num_rows)
        file.write_text(json.dumps(comparison(num_rows)))
    assert [c["num_rows_full"] for c in load_earlier(file)] == [900, 1100]


def test_a_broken_comparison_is_replaced_and_a_broken_earlier_one_is_named(tmp_path: Path) -> None:
    file = tmp_path / "consistency.json"
    file.write_text("{")
    keep_earlier(file, 900)
    assert load_earlier(file) == []
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "000000000900.json").write_text("{")
    with pytest.raises(DataError, match=r"earlier/000000000900\.json"):
        load_earlier(file)


def test_moments_are_in_order_and_have_a_tau() -> None:
    found = moments(
        [comparison(30, 0.7), comparison(10), comparison(20, None), comparison(10, 0.6)]
    )
    assert [(m.num_rows, m.kendall_tau) for m in found] == [(10, 0.6), (30, 0.7)]
    assert found[0].interval == (0.1, 0.9)
    assert found[0].kendall_tau_ceiling is None
