"""Figures as a person reads them: grouped counts, durations, shares, and "–" for a missing one."""

from __future__ import annotations

import math

MISSING = "–"


def is_missing(value: object) -> bool:
    """None and NaN: what a run couldn't compute."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def count(value: float | None) -> str:
    """1234567 -> `1,234,567`."""
    if value is None or is_missing(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{round(value):,}"


def decimal(value: float | None, digits: int = 3) -> str:
    """Fixed digits with a true minus sign, so that columns align; -0.1 -> `−0.100`."""
    if value is None or is_missing(value):
        return MISSING
    text = f"{abs(value):,.{digits}f}"
    return f"−{text}" if value < 0 and float(text.replace(",", "")) != 0 else text


def significant(value: float | None, digits: int = 2) -> str:
    """At least `digits` significant digits, never scientific; 0.000812 -> `0.00081`."""
    if value is None or is_missing(value):
        return MISSING
    if value == 0 or math.isinf(value):
        return "0" if value == 0 else ("∞" if value > 0 else "−∞")
    return decimal(value, max(0, digits - 1 - math.floor(math.log10(abs(value)))))


def percent(value: float | None) -> str:
    """A share of one; 0.0203 -> `2.0 %`, 0.92 -> `92 %`."""
    if value is None or is_missing(value):
        return MISSING
    scaled = 100 * value
    return f"{decimal(scaled, 0 if abs(scaled) >= 10 else 1)} %" if scaled else "0 %"


def fraction(value: float | None) -> str:
    """A small share as one in so many; 0.0167 -> `1/60`, 0.7 -> `70 %`, 1 -> `1`."""
    if value is None or is_missing(value):
        return MISSING
    if value >= 0.999:
        return "1"
    return f"1/{round(1 / value):,}" if 0 < value < 0.5 else percent(value)


def times(value: float | None) -> str:
    """A factor; 5.25 -> `5.3 ×`, 61.2 -> `61 ×`."""
    if value is None or is_missing(value):
        return MISSING
    return f"{decimal(value, 0 if abs(value) >= 10 else 1 if abs(value) >= 1 else 2)} ×"


def duration(seconds: float | None) -> str:
    """The two largest units; 414.2 -> `6 min 54 s`."""
    if seconds is None or is_missing(seconds) or math.isinf(seconds):
        return MISSING
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, smaller_size, smaller in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def value(item: object) -> str:
    """Any scalar of a JSON file as text, numbers in full precision."""
    if is_missing(item):
        return MISSING
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, int):
        return count(item)
    if isinstance(item, float):
        if item.is_integer() and abs(item) < 1e15:
            return count(item)
        return f"{item:,.6g}".replace("-", "−") if abs(item) < 1e15 else f"{item:g}"
    return str(item)
