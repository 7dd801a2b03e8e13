"""What the report says of a memory, on five slots by hand."""

from __future__ import annotations

import pytest

from diet_ray.report.memory import BirthStage, FieldCoverage, memory_figures
from tests.report.small_set import MARKUP, small_set


def test_birth_stages_by_hand() -> None:
    stages = memory_figures(small_set()).stages
    assert [s.num_slots for s in stages] == [3, 0, 2]
    assert [s.num_proposed for s in stages] == [4, 4, 4]
    assert [s.num_rows for s in stages] == [30, 31, 32]
    assert stages[0].weight == 40
    assert stages[0].positive_share == 0.5
    assert stages[0].soft_share == pytest.approx((10 + 20 + 1.5 * 10) / 80)
    assert stages[1] == BirthStage(
        stage=1,
        num_slots=0,
        num_proposed=4,
        num_rows=31,
        weight=0,
        positive_share=None,
        soft_share=None,
    )
    assert stages[2].soft_share == pytest.approx((0.5 * 15 + 0.25 * 5) / 20)


def test_coverage_by_hand() -> None:
    def field(
        name: str, kind: str, num_values: int | None, num_log: int | None, covered: float | None
    ) -> FieldCoverage:
        return FieldCoverage(
            name=name,
            kind=kind,
            num_values=num_values,
            num_log_values=num_log,
            covered=covered,
        )

    assert memory_figures(small_set()).coverage == (
        field("user", "categorical", 2, 4, 0.6),
        field("item", "categorical", 2, 2, 1.0),
        field("device", "categorical, hashed", 2, 8, None),
        field("price", "numeric", None, None, None),
        field("watched", "history of item", 2, 2, None),
    )


def test_the_most_influential_rows_in_words() -> None:
    rows = memory_figures(small_set()).rows
    assert [r.influence for r in rows] == ["3.00", "2.00", "0.500", "0.400", "0.100"]
    first = rows[0]
    long = "x" * 47 + "…"
    assert first.values == (
        ("user", "ann"),
        ("item", long),
        ("device", "bucket 9"),
        ("price", "−0.50 SD"),
        ("watched", f"2 more, {MARKUP}, {long}, {MARKUP}, {long}, {MARKUP}, {long}"),
    )
    assert (first.label, first.soft_label, first.weight, first.birth_stage) == (
        *("positive", "75 %", "10"),
        0,
    )
    # 05:22 UTC, eight hours later in Shanghai.
    assert first.time == "2022-04-15 13:22"
    assert dict(rows[4].values)["user"] == "(empty)"
    assert dict(rows[3].values) | {"item": ""} == {
        "user": "unknown",
        "item": "",
        "device": "unknown",
        "price": "0.00 SD",
        "watched": "none",
    }


def test_the_share_of_the_most_influential() -> None:
    figures = memory_figures(small_set())
    assert figures.top_influence_share == pytest.approx(3 / 6)
    assert figures.num_bytes == (("slots", 1200), ("vocabularies", 34))
