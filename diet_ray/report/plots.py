"""What the report's plots show. Each is drawn twice, for a wide and for a narrow column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from diet_ray.report import format as fmt
from diet_ray.report.candidates import FAMILIES, OTHER_FAMILY, CandidateFigures, Flip
from diet_ray.report.curve import Standing
from diet_ray.report.figures import METHOD, Method
from diet_ray.report.growth import Moment
from diet_ray.report.labels import along, place
from diet_ray.report.svg import (
    ACCENT,
    ALERT,
    FAMILY_COLOURS,
    FONT_SIZE,
    GRID,
    INK,
    MUTED,
    SURFACE,
    render,
)

_MARKERS = "os^DvPX"
_FAMILIES = (*dict.fromkeys(FAMILIES.values()), OTHER_FAMILY)
_MAX_NAMES = 26
"""More candidates than this are labelled by their place in the table instead of their name."""
_MAX_LABELS = 40
_MAX_FLIPS = 15


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One drawing in two widths; the alternative text says what it shows."""

    wide: str
    narrow: str
    alt: str


def ranking_plot(rows: Sequence[CandidateFigures], flips: Sequence[Flip]) -> Plot | None:
    """Full AUC (x) against distilled AUC (y) of each candidate; None below two complete ones."""
    known = [
        r for r in rows if r.counted and r.full_auc is not None and r.distilled_auc is not None
    ]
    if len(known) < 2:
        return None
    return _both(
        "ranking",
        lambda figure, axes, wide: _draw_ranking(figure, axes, known, list(rows), flips, wide),
        f"AUC of {len(known)} candidates after full and after distilled training",
        wide=(9.0, 5.4),
        narrow=(3.7, 4.5),
    )


def cost_plot(methods: Sequence[Method], ceiling: float | None) -> Plot | None:
    """Tau (y) against row visits (x, logarithmic); None if no method has both."""
    known = [m for m in methods if m.kendall_tau is not None and m.row_visit_fraction is not None]
    if not any(m.row_visit_fraction for m in known):
        return None
    return _both(
        "cost",
        lambda figure, axes, wide: _draw_cost(figure, axes, known, ceiling, wide),
        "Kendall’s tau of the distilled set and the baselines against the rows they visit",
        wide=(9.0, 4.0),
        narrow=(3.7, 3.7),
    )


def curve_plot(standing: Standing) -> Plot:
    """Share of resolved pairs in order (y) against row visits (x, logarithmic)."""
    return _both(
        "curve",
        lambda figure, axes, wide: _draw_curve(figure, axes, standing, wide),
        "Resolved pairs in the right order against the rows visited: this run, its baselines and "
        "the published logs",
        wide=(9.0, 3.4),
        narrow=(3.7, 3.4),
    )


def growth_plot(moments: Sequence[Moment]) -> Plot | None:
    """Tau and its ceiling (y) against the rows of the log (x); None below two comparisons."""
    if len(moments) < 2:
        return None
    return _both(
        "growth",
        lambda figure, axes, _: _draw_growth(axes, moments),
        f"Kendall’s tau and its ceiling in {len(moments)} comparisons while the log grew",
        wide=(9.0, 3.0),
        narrow=(3.7, 3.0),
    )


def series_plot(name: str, label: str, x: Sequence[int], y: Sequence[float]) -> str:
    """One quantity over stages, as a small drawing that serves both widths."""
    return render(
        f"stages-{name}",
        lambda figure, axes: _draw_series(axes, label, x, y),
        size=(4.1, 1.8),
    )


def _both(
    name: str,
    draw: Callable[[Figure, Axes, bool], None],
    alt: str,
    *,
    wide: tuple[float, float],
    narrow: tuple[float, float],
) -> Plot:
    return Plot(
        wide=render(f"{name}-wide", lambda f, a: draw(f, a, True), size=wide),
        narrow=render(f"{name}-narrow", lambda f, a: draw(f, a, False), size=narrow),
        alt=alt,
    )


def _draw_ranking(
    figure: Figure,
    axes: Axes,
    known: Sequence[CandidateFigures],
    rows: list[CandidateFigures],
    flips: Sequence[Flip],
    wide: bool,
) -> None:
    x = np.array([r.full_auc for r in known], dtype=float)
    y = np.array([r.distilled_auc for r in known], dtype=float)
    lines: list[Any] = []
    for flip in flips[:_MAX_FLIPS]:
        ends = [(c.full_auc or 0.0, c.distilled_auc or 0.0) for c in (flip.better, flip.worse)]
        lines.append(ends)
        axes.plot(
            *np.transpose(ends),
            color=ALERT,
            linestyle=(0, (4, 2.5)),
            linewidth=0.9,
            zorder=1,
        )
    x_sd = np.array([r.full_sd or 0.0 for r in known])
    y_sd = np.array([r.distilled_sd or 0.0 for r in known])
    lines += zip(np.column_stack([x - x_sd, y]), np.column_stack([x + x_sd, y]), strict=True)
    lines += zip(np.column_stack([x, y - y_sd]), np.column_stack([x, y + y_sd]), strict=True)
    axes.errorbar(
        x,
        y,
        xerr=x_sd,
        yerr=y_sd,
        fmt="none",
        ecolor=MUTED,
        elinewidth=0.8,
        zorder=2,
    )
    for i, family in enumerate(_FAMILIES):
        members = [j for j, r in enumerate(known) if r.family == family]
        if members:
            axes.plot(
                x[members],
                y[members],
                linestyle="none",
                marker=_MARKERS[i],
                markersize=6.5,
                markerfacecolor=FAMILY_COLOURS[i],
                markeredgecolor=SURFACE,
                markeredgewidth=0.7,
                label=family,
                zorder=3,
            )
    axes.set_xlabel("AUC after full training")
    axes.set_ylabel("AUC after training on the distilled set")
    axes.margins(0.09 if wide else 0.12)
    handles, names = axes.get_legend_handles_labels()
    if flips:
        handles.append(Line2D([], [], color=ALERT, linestyle=(0, (4, 2.5)), linewidth=0.9))
        names.append("resolved pair that flipped")
    figure.legend(
        handles,
        names,
        loc="outside lower left",
        ncols=4 if wide else 2,
        frameon=False,
        labelcolor=INK,
        handletextpad=0.4,
        columnspacing=1.4,
    )
    use_names = wide and len(known) <= _MAX_NAMES
    texts = [r.name if use_names else str(rows.index(r) + 1) for r in known]
    _label(figure, axes, x, y, texts, lines)


def _draw_cost(
    figure: Figure, axes: Axes, known: Sequence[Method], ceiling: float | None, wide: bool
) -> None:
    positive = [m.row_visit_fraction for m in known if m.row_visit_fraction]
    # A method that trains nothing has no place on a logarithmic axis: it stands left of it.
    free = 10 ** (np.floor(np.log10(min(positive))) - 0.35)
    x = np.array([m.row_visit_fraction or free for m in known], dtype=float)
    y = np.array([m.kendall_tau for m in known], dtype=float)
    names = [m.label for m in known]
    points_x, points_y = x, y
    lines: list[Any] = []
    axes.set_xscale("log")
    if ceiling is not None:
        axes.axhline(ceiling, color=MUTED, linestyle=(0, (1.5, 2)), linewidth=1, zorder=1)
        axes.plot([1], [ceiling], marker="D", markersize=6.5, **_hollow(MUTED), zorder=3)
        points_x, points_y = np.append(x, 1.0), np.append(y, ceiling)
        names.append("one more full training" if wide else "full")
    for method, at, tau in zip(known, x, y, strict=True):
        if method.name == METHOD:
            axes.plot([at], [tau], marker="*", markersize=13, color=ACCENT, zorder=4, mew=0)
        else:
            axes.plot([at], [tau], marker="o", markersize=6, **_hollow(INK), zorder=3)
    has_free = any(not m.row_visit_fraction for m in known)
    low, high = min(x.min(), *positive), max(1.0, x.max())
    axes.set_xlim(low / 1.7, high * 1.9)
    if ceiling is not None:
        lines.append([(low / 1.7, ceiling), (high * 1.9, ceiling)])
    decades = [
        10.0**e
        for e in range(int(np.floor(np.log10(min(positive)))), int(np.ceil(np.log10(high))) + 1)
        if axes.get_xlim()[0] <= 10.0**e <= axes.get_xlim()[1]
    ]
    axes.xaxis.set_major_locator(FixedLocator([free, *decades] if has_free else decades))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda v, _: "none" if v <= free * 1.01 and has_free else fmt.fraction(v))
    )
    if has_free:
        axes.axvline(free * 10**0.18, color=GRID, linewidth=0.8)
    axes.axhline(0, color=GRID, linewidth=1.2, zorder=0)
    axes.margins(y=0.14)
    axes.set_xlabel(
        "Rows visited for a candidate, of a full run’s" if wide else "Rows visited, of a full run’s"
    )
    axes.set_ylabel("Kendall’s tau-b against full training")
    _label(figure, axes, points_x, points_y, names, lines)


def _draw_curve(figure: Figure, axes: Axes, standing: Standing, wide: bool) -> None:
    points, own = standing.published, standing.own
    x = np.array([p.row_visit_fraction for p in points])
    spread = [p.resolved_pair_accuracy for p in points]
    axes.set_xscale("log")
    axes.fill_between(x, [min(a) for a in spread], [max(a) for a in spread], color=GRID, lw=0)
    medians = np.array([np.median(a) for a in spread])
    axes.plot(x, medians, color=MUTED, linewidth=1.2, zorder=2)
    for at, found in zip(x, spread, strict=True):
        axes.plot([at] * len(found), found, "_", color=MUTED, markersize=9, zorder=2)
    for mark in standing.equal_cost:
        axes.plot(
            [mark.row_visit_fraction],
            [mark.resolved_pair_accuracy],
            marker="o",
            markersize=6,
            **_hollow(INK),
            zorder=3,
        )
    axes.plot(
        [own.row_visit_fraction],
        [own.resolved_pair_accuracy],
        marker="*",
        markersize=13,
        color=ACCENT,
        mew=0,
        zorder=4,
    )
    marks = (own, *standing.equal_cost)
    costs = np.array([m.row_visit_fraction for m in marks])
    accuracies = np.array([m.resolved_pair_accuracy for m in marks])
    low, high = min(x.min(), costs.min()) / 1.4, max(x.max(), costs.max()) * 1.9
    axes.set_xlim(low, high)
    # A label is about so wide. Those nearest to the run are drawn where not all have room.
    width = (0.06 if wide else 0.12) * np.log(high / low)
    ticks: list[float] = []
    for at in sorted(x.tolist(), key=lambda at: abs(np.log(at / own.row_visit_fraction))):
        if all(abs(np.log(at / other)) > width for other in ticks):
            ticks.append(at)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: fmt.fraction(v)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: fmt.percent(v)))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    axes.margins(y=0.14)
    axes.set_ylim(top=min(axes.get_ylim()[1], 1.02))
    axes.set_xlabel(
        "Rows visited for a candidate, of a full run’s" if wide else "Rows visited, of a full run’s"
    )
    axes.set_ylabel("Resolved pairs in order")
    names = ["this run", *(m.label for m in standing.equal_cost)]
    corners = np.column_stack([x, medians])
    _label(figure, axes, costs, accuracies, names, list(pairwise(corners)))


def _draw_growth(axes: Axes, moments: Sequence[Moment]) -> None:
    for m in moments:
        if m.interval is not None:
            axes.plot([m.num_rows] * 2, m.interval, color=MUTED, linewidth=0.9, zorder=2)
    limits = [
        (m.num_rows, m.kendall_tau_ceiling) for m in moments if m.kendall_tau_ceiling is not None
    ]
    if limits:
        axes.plot(
            *zip(*limits, strict=True),
            color=MUTED,
            linewidth=1,
            linestyle=(0, (1.5, 2)),
            marker="D",
            markersize=6,
            markerfacecolor=SURFACE,
            label="ceiling",
            zorder=3,
        )
    axes.plot(
        [m.num_rows for m in moments],
        [m.kendall_tau for m in moments],
        color=ACCENT,
        linewidth=1.5,
        marker="o",
        markersize=6,
        label="distilled",
        zorder=4,
    )
    axes.margins(x=0.08, y=0.14)
    axes.set_xlabel("Rows of the log")
    axes.set_ylabel("Kendall’s tau-b")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: fmt.count(v)))
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, labelcolor=INK, borderpad=0
    )


def _draw_series(axes: Axes, label: str, x: Sequence[int], y: Sequence[float]) -> None:
    axes.plot(x, y, color=ACCENT, linewidth=1.5, marker="o", markersize=2.6 if len(x) < 60 else 0)
    axes.set_title(label, loc="left", fontsize=FONT_SIZE, color=INK, pad=7)
    axes.set_xlabel("stage", labelpad=1)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.yaxis.set_major_locator(
        MaxNLocator(nbins=4, integer=all(float(v).is_integer() for v in y))
    )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: fmt.value(float(f"{v:.6g}"))))
    low, high = min(y), max(y)
    # Counts start at zero; a quantity that hardly moves isn't blown up to look as if it did.
    if low == high == 0:
        axes.set_ylim(0, 1)
    elif low >= 0 and high > 0 and low < 0.7 * high:
        axes.set_ylim(0, high * 1.1)
    elif high - low < 0.02 * abs(high):
        axes.set_ylim(low - 0.02 * abs(high), high + 0.02 * abs(high))


def _label(
    figure: Figure,
    axes: Axes,
    x: np.ndarray,
    y: np.ndarray,
    texts: Sequence[str],
    lines: Sequence[Any],
) -> None:
    """Names points where there is room, off the `lines`, each a pair of ends.

    A name that stands away from its point gets a thin line to it.
    """
    figure.draw_without_rendering()
    to_display = axes.transData
    marks = to_display.transform(np.column_stack([x, y]))
    ends = [to_display.transform(np.array(pair)) for pair in lines]
    obstacles = np.concatenate(
        [
            np.concatenate([marks - 5.0, marks + 5.0], axis=1),
            *(along(start, end, width=3.0) for start, end in ends),
        ]
    )
    shown = list(range(len(texts)))
    if len(shown) > _MAX_LABELS:
        # The best and the worst matter most.
        num_best = _MAX_LABELS * 3 // 4
        shown = shown[:num_best] + shown[num_best - _MAX_LABELS :]
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    sizes = np.zeros((len(shown), 2))
    for row, i in enumerate(shown):
        artist = axes.text(0, 0, texts[i], fontsize=FONT_SIZE)
        sizes[row] = artist.get_window_extent(renderer).width, FONT_SIZE * 1.15
        artist.remove()
    frame = axes.get_window_extent(renderer)
    corners = place(
        marks[shown],
        sizes,
        (frame.x0 + 2, frame.y0 + 2, frame.x1 - 2, frame.y1 - 2),
        gap=6.5,
        obstacles=obstacles,
    )
    to_data = to_display.inverted()
    for i, corner, size in zip(shown, corners, sizes, strict=True):
        left, base = to_data.transform(corner + np.array([0, 0.24 * FONT_SIZE]))
        axes.text(left, base, texts[i], fontsize=FONT_SIZE, color=INK, zorder=5)
        nearest = np.clip(marks[i], corner, corner + size)
        if np.hypot(*(nearest - marks[i])) > 13.0:
            line = to_data.transform(np.stack([marks[i], nearest]))
            axes.plot(line[:, 0], line[:, 1], color=MUTED, linewidth=0.5, zorder=2.5)


def _hollow(colour: str) -> dict[str, Any]:
    return {
        "markerfacecolor": SURFACE,
        "markeredgecolor": colour,
        "markeredgewidth": 1.3,
        "linestyle": "none",
    }
