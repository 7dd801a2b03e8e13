"""The report: one HTML file that needs nothing else, neither network nor fonts nor scripts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from diet_ray.errors import OutputError
from diet_ray.memory.dataset import DistilledDataset
from diet_ray.report import figures as figs
from diet_ray.report import format as fmt
from diet_ray.report import plots, tables
from diet_ray.report.candidates import candidates, flipped_pairs
from diet_ray.report.curve import published, sentence, standing
from diet_ray.report.growth import moments
from diet_ray.report.memory import MemoryFigures, memory_figures
from diet_ray.report.memory_plots import influence_plot, memory_plots
from diet_ray.report.noise import noise_of
from diet_ray.report.verdict import verdict
from diet_ray.report.versions import installed_versions

_MAX_FLIPS_SHOWN = 20

_COSTS = (
    ("num_rows_full", "Rows of the full log", fmt.count),
    ("num_rows_distilled", "Rows of the distilled dataset", fmt.count),
    ("row_fraction", "Rows kept", fmt.percent),
    ("byte_fraction", "Bytes kept, everything shipped with the set included", fmt.percent),
    ("row_visit_fraction", "Rows visited for a candidate, of a full run’s", fmt.percent),
    ("full_seconds", "All full runs", fmt.duration),
    (
        "distilled_seconds",
        "All distilled runs, evaluation and search overhead included",
        fmt.duration,
    ),
    ("distill_seconds", "Distillation, once", fmt.duration),
    ("iteration_speedup", "Speed-up of a search, the distilled set being there", fmt.times),
    ("amortised_speedup", "Speed-up of a search, distillation included", fmt.times),
)

_STAGE_LABELS = {
    "rows": "Rows read",
    "rows_seen": "Rows seen so far",
    "slots": "Slots in memory",
    "proposed": "Slots proposed",
    "addressed": "Slots addressed",
    "fused": "Slots fused",
    "refinement_accepted": "Refinement accepted",
    "refinement_loss_before": "Refinement loss before",
    "refinement_loss_after": "Refinement loss after",
    "mean_influence": "Mean influence",
    "progressive_log_loss": "Proxy’s log loss before training",
    "bytes_received": "Bytes from the scorers",
    "clipped_rows": "Rows with clipped gradients",
}
_STAGE_PLOTS = ("slots", "addressed", "progressive_log_loss", "mean_influence")


@dataclass(frozen=True, kw_only=True)
class Line:
    """A figure with its label, and why it is missing if it is."""

    label: str
    text: str
    why: str


def write_report(
    consistency: Mapping[str, Any],
    path: str | Path,
    manifest: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    *,
    dataset: DistilledDataset | None = None,
    earlier: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Writes the page and returns where it lies.

    `consistency` is the content of `consistency.json`, `manifest` that of the distilled set's
    `manifest.json`, `config` what the run was configured with, `dataset` the set itself, `earlier`
    comparisons of the same run before it grew. Raises `OutputError` if the file can't be written.
    """
    path = Path(path)
    text = render(consistency, manifest, config, dataset=dataset, earlier=earlier)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as e:
        raise OutputError(f"{path}: can't be written: {e.strerror}") from None
    return path


def render(
    consistency: Mapping[str, Any],
    manifest: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    *,
    dataset: DistilledDataset | None = None,
    earlier: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("diet_ray.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        decimal=fmt.decimal,
        percent=fmt.percent,
        significant=fmt.significant,
        duration=fmt.duration,
        count=fmt.count,
        rank=tables.rank,
        svg=Markup,
        prose=_unbroken,
    )
    rows = candidates(consistency)
    flips = flipped_pairs(rows, figs.number(consistency, "seed_sd"))
    methods = figs.methods(consistency)
    agreement, comparison = verdict(consistency)
    place = standing(methods, published())
    versions = consistency.get("versions")
    settings = config or consistency.get("settings")
    memory = memory_figures(dataset) if dataset else None
    return environment.get_template("page.html").render(
        dataset=str(consistency.get("dataset") or "unnamed log"),
        agreement=agreement,
        comparison=comparison,
        figures=figs.figures(consistency),
        gauge=_gauge(consistency),
        parts=figs.parts(consistency),
        rows=rows,
        flips=flips[:_MAX_FLIPS_SHOWN],
        num_flips=len(flips),
        num_resolved=figs.number(consistency, "num_resolved_pairs"),
        seed_sd=figs.number(consistency, "seed_sd"),
        noise=noise_of(consistency),
        why_no_seed_sd=figs.why_missing(consistency, "seed_sd"),
        ranking=plots.ranking_plot(rows, flips),
        costs=[
            Line(
                label=label,
                text=show(figs.number(consistency, key)),
                why=figs.why_missing(consistency, key),
            )
            for key, label, show in _COSTS
        ],
        cost=plots.cost_plot(methods, figs.number(consistency, "kendall_tau_ceiling")),
        curve=plots.curve_plot(place) if place else None,
        place=sentence(place) if place else None,
        why_no_place=figs.why_missing(consistency, "resolved_pair_accuracy")
        or figs.why_missing(consistency, "row_visit_fraction"),
        methods=methods,
        own_name=figs.METHOD,
        ceiling=figs.number(consistency, "kendall_tau_ceiling"),
        uncosted=[
            m.label for m in methods if m.kendall_tau is not None and m.row_visit_fraction is None
        ],
        growth=plots.growth_plot(moments([*earlier, consistency])),
        stages=_stages(manifest),
        memory=memory,
        sizes=_sizes(memory) if memory else "",
        memory_is_later=dataset is not None
        and dataset.manifest.num_rows_seen != consistency.get("num_rows_full"),
        drawn_memory=_drawn(memory) if memory else None,
        settings=_yaml(settings) if isinstance(settings, Mapping) and settings else None,
        versions=versions if isinstance(versions, Mapping) else installed_versions(),
        measured_versions=isinstance(versions, Mapping),
        all_figures=figs.flatten(consistency),
    )


def _drawn(memory: MemoryFigures) -> dict[str, Any]:
    return {"stages": memory_plots(memory), "influence": influence_plot(memory)}


def _sizes(memory: MemoryFigures) -> str:
    """`55,000 bytes (50,000 slots, 5,000 vocabularies)`."""
    total = sum(size for _, size in memory.num_bytes)
    parts = ", ".join(f"{fmt.count(size)} {name}" for name, size in memory.num_bytes)
    return f"{fmt.count(total)} bytes ({parts})"


def _gauge(consistency: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Bars from 0 to 1 with a mark at the ceiling; None where there is no figure."""
    bars = []
    for figure in figs.figures(consistency):
        value = figs.number(consistency, figure.key)
        ceiling = figs.number(consistency, f"{figure.key}_ceiling")
        drawable = value is not None and figure.key != "top1_regret"
        bars.append(
            {
                "value": 100 * min(max(value or 0.0, 0.0), 1.0) if drawable else None,
                "ceiling": 100 * min(max(ceiling, 0.0), 1.0) if ceiling is not None else None,
            }
        )
    return bars


def _stages(manifest: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A table of all per-stage figures, and small plots of those that tell a story."""
    raw = (manifest or {}).get("stages")
    if not isinstance(raw, list | tuple):
        return None
    records = [r for r in raw if isinstance(r, Mapping)]
    if not records:
        return None
    keys = list(
        dict.fromkeys(
            key
            for record in records
            for key, item in record.items()
            if not isinstance(item, Mapping | list | tuple)
        )
    )
    first = next((k for k in ("stage", "index") if k in keys), None)
    numbers = [int(r[first]) if first and first in r else i for i, r in enumerate(records)]
    drawn = []
    for key in _STAGE_PLOTS:
        values = [figs.number(r, key) for r in records]
        known = [(n, v) for n, v in zip(numbers, values, strict=True) if v is not None]
        if len(known) > 1:
            x, y = zip(*known, strict=True)
            drawn.append(plots.series_plot(key, _STAGE_LABELS[key], x, y))
    columns = [k for k in keys if k != first]
    return {
        "columns": [_STAGE_LABELS.get(k, k.replace("_", " ")) for k in columns],
        "rows": [
            (n, [fmt.value(r.get(k)) for k in columns])
            for n, r in zip(numbers, records, strict=True)
        ],
        "plots": drawn,
    }


def _unbroken(text: str) -> str:
    """Keeps a number, its unit and a bracket after it on one line."""
    return re.sub(r"(?<=\d) (?=[%×(])", "\N{NO-BREAK SPACE}", text)


def _yaml(config: Mapping[str, Any]) -> str:
    return yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True, width=88).strip()


def _plain(item: Any) -> Any:
    if isinstance(item, Mapping):
        return {str(k): _plain(v) for k, v in item.items()}
    if isinstance(item, list | tuple):
        return [_plain(v) for v in item]
    return item if isinstance(item, bool | int | float | str | None) else str(item)
