"""Two sentences that a person may rely on: how far the rankings agree, and what does it better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diet_ray.report import figures as figs
from diet_ray.report import format as fmt

UNRELIABLE_CEILING = 0.2
"""Below this tau the full runs hardly agree with each other, and no method can be judged."""

DEARER = 1.25
"""From this many times the distilled runs' row visits on, a baseline's cost is told."""


def verdict(consistency: Mapping[str, Any]) -> tuple[str, str]:
    """(agreement relative to its ceiling, at what cost; which baselines score better)."""
    return _agreement(consistency), _comparison(consistency)


def _agreement(consistency: Mapping[str, Any]) -> str:
    num = fmt.count(figs.number(consistency, "num_candidates"))
    tau = figs.number(consistency, "kendall_tau")
    if tau is None:
        why = figs.why_missing(consistency, "kendall_tau")
        return f"Whether the distilled runs rank the {num} candidates rightly can’t be said: {why}."
    ceiling = figs.number(consistency, "kendall_tau_ceiling")
    cost = _cost(consistency)
    shown = fmt.decimal(tau, 2)
    if ceiling is None:
        why = figs.why_missing(consistency, "kendall_tau_ceiling")
        return (
            f"The distilled runs{cost} rank the {num} candidates {_degree(tau)} like full training "
            f"(tau {shown}); how much agreement is possible at all is unknown: {why}."
        )
    if ceiling < UNRELIABLE_CEILING:
        return (
            f"Full training hardly agrees with itself from seed to seed (tau "
            f"{fmt.decimal(ceiling, 2)}), so these {num} candidates are too close to be told apart "
            f"and the distilled runs’ tau of {shown} says little either way."
        )
    # Held against the same references as the ceiling, where the run recorded that.
    matched = figs.number(consistency, "kendall_tau_matched")
    fair = tau if matched is None else matched
    if tau <= 0:
        return (
            f"The distilled runs{cost} do not rank the {num} candidates like full training (tau "
            f"{shown}, against {fmt.decimal(ceiling, 2)} for one more full training of each)."
        )
    held = (
        f"; held to the same references, they score {fmt.decimal(fair, 2)}"
        if matched is not None and fmt.decimal(fair, 2) != shown
        else ","
    )
    return (
        f"The distilled runs{cost} rank the {num} candidates with a tau of {shown}{held} where one "
        f"more full training of each would score {fmt.decimal(ceiling, 2)} "
        f"({fmt.percent(fair / ceiling)})."
    )


def _comparison(consistency: Mapping[str, Any]) -> str:
    rows = figs.methods(consistency)
    own = next(r for r in rows if r.name == figs.METHOD)
    others = [r for r in rows if r.name != figs.METHOD and r.kendall_tau is not None]
    if not others:
        return "No baseline was run, so nothing here says that a plain sample would not do as well."
    if own.kendall_tau is None:
        return f"Of the {len(others)} baselines {_listed(others[:1], own)} ranks best."
    better = [r for r in others if _tau(r) > own.kendall_tau]
    equal = [r for r in others if _tau(r) == own.kendall_tau]
    missing = len(rows) - 1 - len(others)
    gap = f" ({missing} more could not be compared)" if missing else ""
    if better:
        verb = "ranks" if len(better) == 1 else "rank"
        tail = (
            "so on this log the distilled set does not earn its place"
            if len(better) == len(others)
            else f"and {len(others) - len(better)} of {len(others)} baselines do not"
        )
        high = _upper_bound(consistency)
        doubt = (
            " (all within the uncertainty of the distilled runs’ own tau)"
            if high is not None and all(_tau(r) <= high for r in better)
            else ""
        )
        return f"{_listed(better, own)} {verb} the candidates better{doubt}, {tail}{gap}."
    # A gap within the seeds' own noise picks no better candidate.
    noise = figs.number(consistency, "seed_sd") or 0.0
    regrets = [
        r
        for r in others
        if r.top1_regret is not None
        and own.top1_regret is not None
        and r.top1_regret < own.top1_regret - noise
    ]
    tied = (
        f", though {_names(equal)} {'does' if len(equal) == 1 else 'do'} as well" if equal else ""
    )
    picked = (
        f", though {_names(regrets)} would have picked a better candidate"
        if regrets and not equal
        else ""
    )
    best = "" if equal else f"; the best is {_listed(others[:1], own)}"
    return f"None of the {len(others)} baselines ranks them better{best}{tied}{picked}{gap}."


def _cost(consistency: Mapping[str, Any]) -> str:
    fraction = figs.number(consistency, "row_visit_fraction")
    if fraction is None or fraction <= 0:
        return ""
    if fraction < 0.5:
        return f", at 1/{round(1 / fraction)} of the rows visited,"
    return f", at {fmt.percent(fraction)} of the rows visited,"


def _degree(tau: float) -> str:
    if tau >= 0.9:
        return "almost exactly"
    if tau >= 0.6:
        return "much"
    if tau >= 0.3:
        return "somewhat"
    return "hardly" if tau > 0 else "not"


def _tau(method: figs.Method) -> float:
    assert method.kendall_tau is not None
    return method.kendall_tau


def _upper_bound(consistency: Mapping[str, Any]) -> float | None:
    bounds = figs.interval_bounds(consistency, "kendall_tau")
    return None if bounds is None else bounds[1]


def _listed(rows: list[figs.Method], own: figs.Method) -> str:
    """`early_stop (tau 0.70, at 3.2 × the rows visited) and recent (0.66)`."""
    parts = []
    for i, row in enumerate(rows):
        text = f"{'tau ' if i == 0 else ''}{fmt.decimal(row.kendall_tau, 2)}"
        if row.row_visit_fraction is not None and own.row_visit_fraction:
            factor = row.row_visit_fraction / own.row_visit_fraction
            if factor >= DEARER:
                text += f", at {fmt.times(factor)} the rows visited"
        parts.append(f"{row.label} ({text})")
    return _joined(parts)


def _names(rows: list[figs.Method]) -> str:
    return _joined([r.label for r in rows])


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
