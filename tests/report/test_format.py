from __future__ import annotations

import math

import pytest

from diet_ray.report import format as fmt


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (59.6, "1 min"),
        (414.2, "6 min 54 s"),
        (3600, "1 h"),
        (3 * 3600 + 59, "3 h"),
        (86_400 * 2 + 3600 * 5, "2 d 5 h"),
        (math.inf, "–"),
        (None, "–"),
    ],
)
def test_duration_shows_the_two_largest_units(seconds: float | None, text: str) -> None:
    assert fmt.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.000812, "0.00081"), (12.4, "12"), (0.0, "0"), (-0.05, "−0.050"), (math.nan, "–")],
)
def test_significant_digits(value: float, text: str) -> None:
    assert fmt.significant(value) == text


def test_other_figures() -> None:
    assert fmt.count(1_234_567.4) == "1,234,567"
    assert fmt.count(math.inf) == "∞"
    assert fmt.decimal(-0.1234, 2) == "−0.12"
    assert fmt.decimal(-0.001, 2) == "0.00"
    assert fmt.percent(0.0203) == "2.0 %"
    assert fmt.percent(0.923) == "92 %"
    assert [fmt.fraction(v) for v in (1.0, 0.7, 0.0167, 1e-4)] == ["1", "70 %", "1/60", "1/10,000"]
    assert fmt.fraction(None) == "–"
    assert fmt.fraction(0.0) == "0 %"
    assert fmt.times(61.2) == "61 ×"
    assert fmt.times(5.25) == "5.2 ×"
    assert fmt.value(None) == "–"
    assert fmt.value(True) == "yes"
    assert fmt.value(-1234.5) == "−1,234.5"
    assert fmt.value("a") == "a"
