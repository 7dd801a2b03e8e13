"""Drawing SVG that lives inside an HTML page.

Drawn by matplotlib without a display, then fitted to the page: text stays text and takes the page's
font, colours become the page's CSS variables, so that one drawing serves light and dark, and ids
are unique in the page. The same input gives the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Stand-ins, each replaced by a CSS variable in the finished drawing.
INK, MUTED, GRID, SURFACE, ACCENT, ALERT = (f"#0{i}0{i}0{i}" for i in range(1, 7))
FAMILY_COLOURS = tuple(f"#0a0a0{i}" for i in range(7))
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    SURFACE: "--surface",
    ACCENT: "--accent",
    ALERT: "--alert",
    **{colour: f"--family-{i}" for i, colour in enumerate(FAMILY_COLOURS)},
}
FONT_SIZE = 8.5


def render(name: str, draw: Callable[[Figure, Axes], None], *, size: tuple[float, float]) -> str:
    """What `draw` puts on empty axes of `size` inches, as an `<svg>` element."""
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.family": "DejaVu Sans",
        "font.size": FONT_SIZE,
        "axes.unicode_minus": True,
        "axes.edgecolor": GRID,
        "axes.labelcolor": INK,
        "axes.labelpad": 6,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "xtick.color": GRID,
        "ytick.color": GRID,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": MUTED,
        "xtick.major.size": 3,
        "ytick.major.size": 0,
        "text.color": INK,
        "text.parse_math": False,
        "legend.fontsize": FONT_SIZE,
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=size, dpi=72, layout="constrained")
        FigureCanvasAgg(figure)
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        draw(figure, axes)
        stream = io.StringIO()
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", metadata=no_metadata)
    return _for_html(stream.getvalue(), name)


def _for_html(svg: str, name: str) -> str:
    """Drops what only a file of its own needs; makes ids unique in the page; names colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(<svg[^>]*?)\s(?:width|height)="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?)\s(?:width|height)="[^"]*"', r"\1", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    svg = re.sub(r"font-family:[^;\"]*;?\s*|font: ([\d.]+px)[^;\"]*", _font, svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg.replace("<svg ", '<svg aria-hidden="true" ', 1).strip()


def _font(match: re.Match[str]) -> str:
    return f"font-size: {match[1]}" if match[1] else ""
