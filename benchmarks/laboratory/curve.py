"""Fidelity against cost: the shipped default and its baselines at several sizes of the set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from benchmarks.laboratory.bench import Bench, Scores
from benchmarks.laboratory.distilled import REFERENCE_FRACTION, Distilled, default_config, distil
from benchmarks.laboratory.measure import figures, gain, mean_rank
from benchmarks.laboratory.methods import (
    BASELINE_SEED,
    FEW_ROWS,
    PER_STREAM,
    best_recipe,
    distilled_scores,
    few_rows_baseline,
    stream_baseline,
)
from diet_ray.distillation.config import default_proxies
from diet_ray.search.agreement import Arm, ceiling
from diet_ray.search.statistics import Array

DEAR_FRACTION = 1 / 15
"""From here on one seed a method, and `recent` is left out."""
DEAR_FEW_ROWS = ("random_soft", "random_hard")
NUM_SHUFFLES = 20


def sets_of(bench: Bench, fraction: float, num_seeds: int, out: Path) -> list[Distilled]:
    """The shipped default's sets, one a seed."""
    configs = [default_config(bench.source, fraction, seed) for seed in range(num_seeds)]
    return [distil(bench.log, config, out) for config in configs]


def point(
    bench: Bench, fraction: float, num_seeds: int, prior: Array | None, out: Path
) -> dict[str, Any]:
    """All figures of one log at one size of the set."""
    dear = fraction >= DEAR_FRACTION
    sets = sets_of(bench, fraction, 1 if dear else num_seeds, out)
    visits = sets[0].recipe.epochs * len(sets[0].train) / len(bench.train)
    scores = distilled_scores(bench, sets)
    others = baselines(bench, sets, visits, out, (DEAR_FEW_ROWS if dear else FEW_ROWS) + PER_STREAM)
    method, rivals = _stacked(scores), {name: _stacked(s) for name, s in others.items()}
    if prior is not None and np.isfinite(prior).all():
        rivals["prior"] = prior[:, None]
    # Rows labelled by the set's own proxies have already paid for the distillation.
    without = {name: b for name, b in rivals.items() if name != "random_soft"}
    full = bench.full
    return (
        {"fraction": fraction, "row_fraction": sets[0].row_fraction}
        | {"byte_fraction": sets[0].byte_fraction, "row_visit_fraction": visits}
        | figures(full, method)
        | dict(ceiling(full))
        | gain(full, method, rivals)
        | {f"{k}_without_proxies": v for k, v in gain(full, method, without).items()}
        | {"controls": controls(full, method) | favour(bench, method)}
        | {"baselines": {name: figures(full, b) for name, b in rivals.items()}}
        | {"distill_seconds": float(np.mean([s.seconds for s in sets]))}
        | {"distilled_seconds": scores[0].seconds, "full_seconds": bench.full_seconds}
        | {"auc": method.tolist()}
    )


def baselines(
    bench: Bench, sets: Sequence[Distilled], visits: float, out: Path, names: Sequence[str]
) -> dict[str, list[Scores]]:
    """Scores of the baselines named, one a set."""
    # The baselines' recipes are chosen at this size, and kept at every other.
    reference = sets_of(bench, REFERENCE_FRACTION, 1, out)[0]
    found = {}
    for name in names:
        if name in FEW_ROWS:
            # Rows with observed labels share a recipe, wherever in the stream they lie.
            judged = "random_hard" if name == "recent" else name
            recipe = best_recipe(bench, judged, reference)
            found[name] = few_rows_baseline(bench, name, recipe, sets)
        else:
            seeds = [BASELINE_SEED + i for i in range(len(sets))]
            found[name] = [stream_baseline(bench, name, visits, seed) for seed in seeds]
    return found


def controls(full: Arm, method: Array) -> dict[str, float]:
    """Against shuffled full results: no method may look good there."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(NUM_SHUFFLES):
        order = generator.permutation(len(method))
        ranking, regret = full.ranking[order], full.regret[order]
        found.append(figures(Arm(ranking=ranking, regret=regret, blocks=full.blocks), method))
    names = ("kendall_tau", "resolved_pair_accuracy")
    return {name: float(np.mean([f[name] for f in found])) for name in names}


def favour(bench: Bench, method: Array) -> dict[str, float]:
    """Places by which distilled runs rank candidates of the proxies' architectures too high.

    The mean over those candidates; 0 if the set doesn't favour the families that labelled it.
    """
    families = {p.architecture for p in default_proxies()}
    own = np.array([c.architecture in families for c in bench.candidates])
    places = rankdata(mean_rank(method)) - rankdata(bench.full.ranking.mean(axis=1))
    return {"favour_of_proxy_families": float(places[own].mean())}


def _stacked(scores: Sequence[Scores]) -> Array:
    return np.stack([s.auc for s in scores], axis=1)
