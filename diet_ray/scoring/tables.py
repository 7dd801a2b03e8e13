"""A scored log as a person reads it in a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from diet_ray.documents import load_json
from diet_ray.errors import DataError
from diet_ray.parquet import decoding
from diet_ray.scoring.score_log import SCORES, ScoredLog

_SHOWN_ROWS = 5


def print_scored(scored: ScoredLog, console: Console) -> None:
    """Moments of every score, the first rows of every list, and where everything is."""
    table = Table(
        "score", "mean", "sd", "smallest", "largest", title="Scores", title_justify="left"
    )
    for name, m in scored.summary.moments.items():
        table.add_row(name, *(f"{x:.4g}" for x in (m.mean, m.sd, m.smallest, m.largest)))
    console.print(table)
    path = scored.path / "summary.json"
    content = load_json(path)
    with decoding(str(path), DataError, "score again"):
        for name, rows in content["lists"].items():
            if rows:
                by = scored.summary.lists[name].score
                console.print(_list(name, by, rows[:_SHOWN_ROWS]))
    for reason in scored.skipped:
        console.print(f"Left out: {reason}", soft_wrap=True)
    console.print(
        f"{scored.num_rows:,} rows in {scored.path / SCORES}, lists in "
        f"{scored.path / 'summary.json'}",
        soft_wrap=True,
    )


def _list(name: str, by: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=f"Most {name}, by {by}", title_justify="left")
    for column in ("row", "score", "time", "label"):
        table.add_column(column, no_wrap=True)
    table.add_column("fields")
    for row in rows:
        fields = ", ".join(f"{k} {_text(v)}" for k, v in row["fields"].items())
        table.add_row(
            str(row["row"]),
            f"{row['score']:.4g}",
            # Without the offset from UTC.
            row["time"][:19],
            f"{row['label']:g}",
            # On a narrow terminal these are cut, nothing else.
            Text(fields, no_wrap=True, overflow="ellipsis"),
        )
    return table


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return f"[{len(value)} items]"
    return str(value)
