"""The same figures in a terminal: rich tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from diet_ray.report import figures as figs
from diet_ray.report import format as fmt
from diet_ray.report.candidates import candidates
from diet_ray.report.noise import noise_of
from diet_ray.report.verdict import verdict


def print_summary(consistency: Mapping[str, Any], console: Console | None = None) -> None:
    """All tables, the noise of the distilled arm, and the verdict."""
    console = console or Console()
    for table in (
        ranking_table(consistency),
        figures_table(consistency),
        methods_table(consistency),
    ):
        console.print(Padding(table, (0, 0, 1, 0)))
    for sentence in (noise_of(consistency), *verdict(consistency)):
        console.print(Text(sentence))


def ranking_table(consistency: Mapping[str, Any]) -> Table:
    """Every candidate, best full run first: ranks and AUC ± seed SD in both arms."""
    table = _table(f"Candidates on {consistency.get('dataset') or 'the log'}")
    table.add_column("candidate", overflow="fold")
    for name in ("full AUC", "rank", "distilled AUC", "rank"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in candidates(consistency):
        table.add_row(
            Text(f"{row.name} ({row.why})" if row.why else row.name),
            mean_and_sd(row.full_auc, row.full_sd),
            rank(row.full_rank),
            mean_and_sd(row.distilled_auc, row.distilled_sd),
            rank(row.distilled_rank) + _arrow(row.rank_change),
        )
    return table


def figures_table(consistency: Mapping[str, Any]) -> Table:
    """Each statistic beside its ceiling and what it cost."""
    cost = fmt.percent(figs.number(consistency, "row_visit_fraction"))
    seconds = fmt.duration(figs.number(consistency, "distilled_seconds"))
    table = _table(f"Agreement with full training, for {cost} of the rows visited and {seconds}")
    table.add_column("", overflow="fold")
    for name in ("distilled", "matched", "ceiling", "90 % interval"):
        table.add_column(name, justify="right")
    table.add_column("", overflow="fold", style="dim")
    for row in figs.figures(consistency):
        table.add_row(row.label, row.text, row.matched, row.ceiling, row.interval, Text(row.why))
    return table


def methods_table(consistency: Mapping[str, Any]) -> Table:
    """The distilled set among the baselines, best tau first."""
    table = _table("The distilled set among the baselines")
    table.add_column("method", overflow="fold")
    for name in ("tau", "resolved", "regret", "rows visited", "time"):
        table.add_column(name, justify="right")
    for row in figs.methods(consistency):
        table.add_row(
            Text(row.label + (f" ({row.why})" if row.why else "")),
            fmt.decimal(row.kendall_tau, 2),
            fmt.percent(row.resolved_pair_accuracy),
            fmt.decimal(row.top1_regret, 5),
            fmt.percent(row.row_visit_fraction),
            fmt.duration(row.seconds),
            style="bold" if row.name == figs.METHOD else None,
        )
    return table


def mean_and_sd(mean: float | None, sd: float | None) -> str:
    """`0.7012 ± 0.0008`; without the SD below two seeds."""
    text = fmt.decimal(mean, 4)
    return text if sd is None or mean is None else f"{text} ± {fmt.decimal(sd, 4)}"


def rank(value: float | None) -> str:
    """`3`, or `3.5` in a tie."""
    return fmt.decimal(value, 0 if value is None or value.is_integer() else 1)


def _arrow(change: float | None) -> str:
    if not change:
        return "   "
    return f" {'↑' if change > 0 else '↓'}{abs(change):g}"


def _table(title: str) -> Table:
    return Table(
        title=Text(title),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
