"""What `consistency.json` says of the whole ranking and of each method, ready to be shown.

Reads the mapping leniently: a key that is absent or null becomes a figure with a reason, never an
error, so that a report can be written of any run that got as far as its figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from diet_ray.report import format as fmt

METHOD = "distilled"
"""The name of the distilled set itself among the methods."""

BASELINES = {
    "random_hard": "random rows, their observed labels",
    "random_soft": "random rows, the proxy's labels",
    "recent": "the most recent rows",
    "early_stop": "full training, stopped early",
    "equal_amortised": "a sub-sampled stream that costs as much, distillation included",
    "halving": "successive halving that costs as much, distillation included",
    "prior": "parameter count and mean rank on other logs; no training",
}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One statistic of the whole ranking, beside what one more full training would score.

    "–" is a figure that could not be computed; empty is one that this statistic doesn't have.
    """

    key: str
    label: str
    text: str
    matched: str
    """The same against the ceiling's own references, the fair one to hold against it."""
    interval: str
    ceiling: str
    why: str
    """Why a figure is missing; empty if none is."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """The same agreement over some of the candidates or pairs."""

    label: str
    kendall_tau: float | None
    kendall_tau_matched: float | None
    kendall_tau_ceiling: float | None
    resolved_pair_accuracy: float | None
    num_resolved_pairs: float | None
    num_pairs: float | None
    why: str


@dataclass(frozen=True, kw_only=True)
class Method:
    """The distilled set, or a baseline: what it costs and how well it ranks."""

    name: str
    description: str
    kendall_tau: float | None
    resolved_pair_accuracy: float | None
    top1_regret: float | None
    row_visit_fraction: float | None
    seconds: float | None
    why: str

    @property
    def label(self) -> str:
        """The name as prose has it."""
        return self.name.replace("_", " ")


def number(mapping: Mapping[str, Any], key: str) -> float | None:
    """A finite or infinite number under `key`; None if absent, null, NaN or no number."""
    item = mapping.get(key)
    if isinstance(item, bool) or not isinstance(item, int | float) or fmt.is_missing(item):
        return None
    return float(item)


def why_missing(consistency: Mapping[str, Any], key: str) -> str:
    """Why there is no figure under `key`; empty if there is one."""
    if not fmt.is_missing(consistency.get(key)):
        return ""
    reasons = consistency.get("reasons")
    if isinstance(reasons, Mapping) and reasons.get(key):
        return str(reasons[key])
    if key not in consistency:
        return "not recorded"
    if key.endswith(("_ceiling", "_matched")) or key == "seed_sd":
        return "needs full runs with two seeds or more"
    if key in ("distilled_seed_sd", "resolution_threshold", "num_unresolved_distilled_pairs"):
        return "needs distilled runs with two seeds or more"
    if key.startswith("resolved_pair_accuracy"):
        return "no pair of candidates is resolved"
    if key.startswith(("kendall_tau", "spearman_rho")):
        return "every candidate is tied, or there are fewer than two"
    if key.startswith("top3_overlap"):
        return "fewer than three candidates"
    if key.endswith(("_speedup", "_seconds")):
        return "not timed"
    return "not computed"


_FIGURES: tuple[tuple[str, str, Callable[[float | None], str]], ...] = (
    ("kendall_tau", "Kendall’s tau-b", lambda v: fmt.decimal(v, 2)),
    ("spearman_rho", "Spearman’s rho", lambda v: fmt.decimal(v, 2)),
    ("resolved_pair_accuracy", "Resolved pairs in the right order", fmt.percent),
    ("top1_regret", "AUC lost by the candidate picked", lambda v: fmt.decimal(v, 5)),
    ("top3_overlap", "Overlap of the three best", fmt.percent),
)


def figures(consistency: Mapping[str, Any]) -> list[Figure]:
    """The statistics of the whole ranking, each beside its ceiling."""
    rows = []
    for key, label, show in _FIGURES:
        rows.append(
            Figure(
                key=key,
                label=label,
                text=show(number(consistency, key)),
                matched=_beside(consistency, f"{key}_matched", show),
                interval=interval(consistency, key, show),
                ceiling=_beside(consistency, f"{key}_ceiling", show),
                why="; ".join(
                    reason
                    for reason in (
                        why_missing(consistency, key),
                        _why_beside(consistency, key, "ceiling"),
                        _why_beside(consistency, key, "matched"),
                    )
                    if reason
                ),
            )
        )
    return rows


def interval_bounds(consistency: Mapping[str, Any], key: str) -> tuple[float, float] | None:
    """(low, high) of a statistic's interval, under `<key>_interval` or `intervals`."""
    nested = consistency.get("intervals")
    bounds = consistency.get(f"{key}_interval")
    if bounds is None and isinstance(nested, Mapping):
        bounds = nested.get(key, nested.get(f"{key}_interval"))
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        return None
    if any(isinstance(b, bool) or not isinstance(b, int | float) for b in bounds):
        return None
    return None if any(map(fmt.is_missing, bounds)) else (float(bounds[0]), float(bounds[1]))


def interval(consistency: Mapping[str, Any], key: str, show: Callable[[float | None], str]) -> str:
    """`low to high`; "–" if it could not be computed, empty if nobody tried."""
    bounds = interval_bounds(consistency, key)
    if bounds is None:
        return fmt.MISSING if f"{key}_interval" in consistency else ""
    return f"{show(bounds[0])} to {show(bounds[1])}"


def methods(consistency: Mapping[str, Any]) -> list[Method]:
    """The distilled set and the baselines, best tau first; those without a tau last."""
    rows = [
        Method(
            name=METHOD,
            description="the distilled dataset",
            kendall_tau=number(consistency, "kendall_tau"),
            resolved_pair_accuracy=number(consistency, "resolved_pair_accuracy"),
            top1_regret=number(consistency, "top1_regret"),
            row_visit_fraction=number(consistency, "row_visit_fraction"),
            seconds=number(consistency, "distilled_seconds"),
            why=why_missing(consistency, "kendall_tau"),
        )
    ]
    baselines = consistency.get("baselines")
    for name, raw in (baselines if isinstance(baselines, Mapping) else {}).items():
        found = raw if isinstance(raw, Mapping) else {}
        rows.append(
            Method(
                name=str(name),
                description=BASELINES.get(str(name), ""),
                kendall_tau=number(found, "kendall_tau"),
                resolved_pair_accuracy=number(found, "resolved_pair_accuracy"),
                top1_regret=number(found, "top1_regret"),
                row_visit_fraction=number(found, "row_visit_fraction"),
                seconds=number(found, "distilled_seconds"),
                why=_why_no_baseline(found),
            )
        )
    return sorted(
        rows, key=lambda r: (-(r.kendall_tau if r.kendall_tau is not None else -2.0), r.name)
    )


_PARTS = (
    ("", "All candidates"),
    ("top_half", "Better half, by full runs"),
    ("architecture_only", "Pairs that differ in architecture alone"),
    ("hyper_parameter_only", "Pairs of one architecture"),
    ("logloss", "All candidates, by log loss"),
)


def parts(consistency: Mapping[str, Any]) -> list[Part]:
    """The whole and its parts, as far as they are recorded; empty if there is only the whole."""
    found = []
    for key, label in _PARTS:
        raw = consistency.get(key) if key else consistency
        if isinstance(raw, Mapping):
            num_pairs = number(raw, "num_pairs")
            found.append(
                Part(
                    label=label,
                    kendall_tau=number(raw, "kendall_tau"),
                    kendall_tau_matched=number(raw, "kendall_tau_matched"),
                    kendall_tau_ceiling=number(raw, "kendall_tau_ceiling"),
                    resolved_pair_accuracy=number(raw, "resolved_pair_accuracy"),
                    num_resolved_pairs=number(raw, "num_resolved_pairs"),
                    num_pairs=num_pairs,
                    why="no such pair" if num_pairs == 0 else why_missing(raw, "kendall_tau"),
                )
            )
    return found if len(found) > 1 else []


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Every scalar and list of scalars as (dotted key, text); lists of mappings by index."""
    rows: list[tuple[str, str]] = []
    for key, item in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            rows += flatten(item, f"{name}.") if item else [(name, fmt.MISSING)]
        elif isinstance(item, list | tuple):
            if any(isinstance(x, Mapping) for x in item):
                for i, x in enumerate(item):
                    rows += flatten(x if isinstance(x, Mapping) else {"": x}, f"{name}[{i}].")
            else:
                rows.append((name, ", ".join(_flat(x) for x in item) if item else fmt.MISSING))
        else:
            rows.append((name, fmt.value(item)))
    return rows


def _flat(item: object) -> str:
    if isinstance(item, list | tuple):
        return "(" + ", ".join(_flat(x) for x in item) + ")"
    return fmt.value(item)


def _why_no_baseline(found: Mapping[str, Any]) -> str:
    if number(found, "kendall_tau") is not None:
        return ""
    details = found.get("details")
    if isinstance(details, Mapping) and details.get("skipped"):
        return str(details["skipped"])
    return "not run" if all(fmt.is_missing(v) for v in found.values()) else "no order to speak of"


def _beside(consistency: Mapping[str, Any], key: str, show: Callable[[float | None], str]) -> str:
    return show(number(consistency, key)) if key in consistency else ""


def _why_beside(consistency: Mapping[str, Any], key: str, what: str) -> str:
    reason = why_missing(consistency, f"{key}_{what}") if f"{key}_{what}" in consistency else ""
    return f"{what}: {reason}" if reason else ""
