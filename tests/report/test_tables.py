"""Terminal tables: every candidate and figure, at the width of a terminal."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from diet_ray.report.tables import print_summary


def printed(consistency: dict[str, Any], width: int) -> str:
    stream = io.StringIO()
    print_summary(consistency, Console(file=stream, width=width))
    return stream.getvalue()


def test_summary_has_ranks_figures_ceilings_and_baselines(consistency: dict[str, Any]) -> None:
    text = printed(consistency, 120)
    assert "dcnv2-16 0.7028 ± 0.0006 2 0.6540 ± 0.0012 5 ↓3" in " ".join(text.split())
    for words in (
        "Kendall’s tau-b",
        "0.44 to 0.75",
        "1.7 % of the rows visited",
        "equal amortised",
        "differences below 0.0020 AUC are not resolved: 7 of 66 pairs.",
    ):
        assert words in text
    for c in consistency["candidates"]:
        assert c["name"] in text
    assert "None of the 7 baselines ranks them better" in text


def test_summary_fits_eighty_columns(consistency: dict[str, Any]) -> None:
    lines = printed(consistency, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)


def test_missing_figures_are_dashes_with_reasons(consistency: dict[str, Any]) -> None:
    for key in list(consistency):
        if isinstance(consistency[key], float | int):
            consistency[key] = None
    text = " ".join(printed(consistency, 140).split())
    assert "needs full runs with two seeds or more" in text
    assert "nan" not in text.lower()
    assert "None " not in text.replace("None of the", "")


def test_names_are_text_not_markup(consistency: dict[str, Any]) -> None:
    consistency["dataset"] = "[red]log[/red]"
    consistency["candidates"][0]["name"] = "[bold]x[/bold]"
    text = printed(consistency, 120)
    assert "[red]log[/red]" in text
    assert "[bold]x[/bold]" in text
