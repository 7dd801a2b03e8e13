"""Small drawings of a memory: by the stage in which slots were born, and over all slots.

Each serves both widths. What is compared differs in shape, not in colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from diet_ray.report import format as fmt
from diet_ray.report.memory import BirthStage, MemoryFigures
from diet_ray.report.svg import ACCENT, FONT_SIZE, INK, MUTED, SURFACE, render

_SIZE = (4.1, 2.0)
_NUM_BINS = 24


def memory_plots(memory: MemoryFigures) -> list[str]:
    """Birth stages, labels and weights; none of an empty memory."""
    if not memory.weight.size:
        return []
    stages = memory.stages
    return [
        render("born-slots", lambda _, axes: _draw_slots(axes, stages), size=_SIZE),
        render("born-weight", lambda _, axes: _draw_weight(axes, stages), size=_SIZE),
        render("born-labels", lambda _, axes: _draw_labels(axes, stages), size=_SIZE),
        render("soft-labels", lambda _, axes: _draw_soft_labels(axes, memory), size=_SIZE),
        render(
            "weights",
            lambda _, axes: _draw_histogram(axes, "Rows that a slot stands for", memory.weight),
            size=_SIZE,
        ),
    ]


def influence_plot(memory: MemoryFigures) -> str | None:
    """How many slots have how much influence."""
    if not memory.influence.size:
        return None
    return render(
        "influence",
        lambda _, axes: _draw_histogram(axes, "Slots by influence", memory.influence),
        size=_SIZE,
    )


def _draw_slots(axes: Axes, stages: Sequence[BirthStage]) -> None:
    x = [s.stage for s in stages]
    _bars(axes, x, [s.num_slots for s in stages], "in memory")
    _marks(axes, [(s.stage, s.num_proposed) for s in stages], "proposed then")
    _from_zero(axes, [v or 0.0 for s in stages for v in (s.num_slots, s.num_proposed)])
    _finish_stages(axes, "Slots by birth stage", x)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))


def _draw_weight(axes: Axes, stages: Sequence[BirthStage]) -> None:
    x = [s.stage for s in stages]
    _bars(axes, x, [s.weight for s in stages], "stood for")
    _marks(axes, [(s.stage, s.num_rows) for s in stages], "rows read")
    _from_zero(axes, [v or 0.0 for s in stages for v in (s.weight, s.num_rows)])
    _finish_stages(axes, "Rows stood for, by birth stage", x)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: fmt.value(float(f"{v:.6g}"))))


def _draw_labels(axes: Axes, stages: Sequence[BirthStage]) -> None:
    known = [s for s in stages if s.positive_share is not None]
    x = [s.stage for s in known]
    size = 4.5 if len(x) < 40 else 0
    axes.plot(
        x,
        [s.positive_share or 0.0 for s in known],
        color=ACCENT,
        linewidth=1.4,
        marker="o",
        markersize=size,
        label="observed",
    )
    axes.plot(
        x,
        [s.soft_share or 0.0 for s in known],
        color=INK,
        linewidth=1.1,
        linestyle=(0, (3, 2)),
        marker="D",
        markersize=size,
        markerfacecolor=SURFACE,
        label="soft",
    )
    _from_zero(axes, [v or 0.0 for s in known for v in (s.positive_share, s.soft_share)])
    _finish_stages(axes, "Positive labels, by birth stage", x)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: fmt.percent(v)))


def _draw_soft_labels(axes: Axes, memory: MemoryFigures) -> None:
    edges = np.linspace(0, 1, _NUM_BINS + 1)
    for wanted, label, colour, dash in (
        (1.0, "observed positive", ACCENT, "solid"),
        (0.0, "observed negative", INK, (0, (3, 2))),
    ):
        counts, _ = np.histogram(memory.soft_label[memory.label == wanted], edges)
        axes.stairs(counts, edges, color=colour, linewidth=1.4, linestyle=dash, label=label)
    _finish(axes, "Slots by soft label")
    axes.set_xlabel("soft label as a probability", labelpad=1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: fmt.percent(v)))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))


def _draw_histogram(axes: Axes, title: str, values: NDArray[np.float64]) -> None:
    """Over a logarithmic axis where values span more than a decade."""
    positive = values[values > 0]
    low, high = (positive.min(), positive.max()) if positive.size else (0.0, 0.0)
    if low > 0 and high / low > 10:
        axes.set_xscale("log")
        edges = np.geomspace(low, high, _NUM_BINS + 1)
        edges[0], edges[-1] = low, high
        # What is 0 or below has no place on the axis; it counts among the least.
        values = np.maximum(values, low)
        ticks = [m * 10.0**e for e in range(-12, 13) for m in (1, 3)]
        axes.xaxis.set_major_locator(FixedLocator([t for t in ticks if low <= t <= high]))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        edges = np.histogram_bin_edges(values, _NUM_BINS)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: fmt.value(float(f"{v:.6g}"))))
    counts, _ = np.histogram(values, edges)
    axes.stairs(counts, edges, color=ACCENT, fill=True, edgecolor=SURFACE, linewidth=0.4)
    axes.axvline(
        float(np.median(values)), color=INK, linewidth=1, linestyle=(0, (3, 2)), label="median"
    )
    _finish(axes, title)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))


def _bars(axes: Axes, x: Sequence[int], heights: Sequence[float], label: str) -> None:
    axes.bar(x, heights, width=0.72, color=ACCENT, linewidth=0, label=label)


def _marks(axes: Axes, pairs: Sequence[tuple[int, float | None]], label: str) -> None:
    """A tick across each bar, where there is something to compare it with."""
    known = [(x, y) for x, y in pairs if y is not None]
    if known:
        left = [x - 0.45 for x, _ in known]
        right = [x + 0.45 for x, _ in known]
        axes.hlines([y for _, y in known], left, right, color=INK, linewidth=1.5, label=label)


def _from_zero(axes: Axes, values: Sequence[float]) -> None:
    """Room above the highest, so that its mark isn't cut."""
    axes.set_ylim(0, 1.1 * max(values) or 1.0)


def _finish_stages(axes: Axes, title: str, x: Sequence[int]) -> None:
    _finish(axes, title)
    axes.set_xlabel("birth stage", labelpad=1)
    axes.set_xlim(min(x) - 0.7, max(x) + 0.7)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=FONT_SIZE, color=INK, pad=18)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.01, 0.99),
        ncols=2,
        frameon=False,
        borderpad=0,
        borderaxespad=0.2,
        handlelength=1.6,
        handletextpad=0.5,
        columnspacing=1.2,
        labelcolor=MUTED,
    )
