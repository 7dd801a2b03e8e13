"""One line on what a distilled ranking can't tell apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diet_ray.report import figures as figs
from diet_ray.report import format as fmt
from diet_ray.search.resolution import Resolution


def noise(found: Resolution | None) -> str:
    """The line under a search's table; None is a search without an estimate."""
    if found is None:
        return "Noise: no estimate, so no difference is known to be real; take two seeds or more."
    line = _figures(found.seed_sd, found.threshold, found.num_unresolved_pairs, found.num_pairs)
    num_candidates = len(found.places)
    if found.num_pairs < num_candidates * (num_candidates - 1) // 2:
        line += " (only candidates that were judged equally often are compared)"
    return f"Noise: {line}"


def noise_of(consistency: Mapping[str, Any]) -> str:
    """The same of a consistency run's distilled arm, or why there is no estimate."""
    seed_sd = figs.number(consistency, "distilled_seed_sd")
    threshold = figs.number(consistency, "resolution_threshold")
    if seed_sd is None or threshold is None:
        text = f"no estimate: {figs.why_missing(consistency, 'distilled_seed_sd')}"
    else:
        text = _figures(
            seed_sd,
            threshold,
            figs.number(consistency, "num_unresolved_distilled_pairs"),
            figs.number(consistency, "num_pairs"),
        )
    return f"Noise of the distilled runs: {text}."


def _figures(
    seed_sd: float, threshold: float, num_unresolved: float | None, num_pairs: float | None
) -> str:
    return (
        f"seed SD {fmt.significant(seed_sd)}; differences below {fmt.significant(threshold)} AUC "
        f"are not resolved: {fmt.count(num_unresolved)} of {fmt.count(num_pairs)} pairs"
    )
