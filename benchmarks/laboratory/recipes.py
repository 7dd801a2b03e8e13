"""How much the recipe matters, what anchors are worth, and how sure a ranking is of itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.laboratory.bench import Bench
from benchmarks.laboratory.curve import sets_of
from benchmarks.laboratory.distilled import REFERENCE_FRACTION
from benchmarks.laboratory.methods import DISTILLED_SEED
from diet_ray.search.agreement import fidelity
from diet_ray.search.anchors import calibration, recipe_choices
from diet_ray.search.statistics import Array, pair_accuracy, pair_signs, pooled_seed_sd
from diet_ray.training.recipe import Recipe, matched_recipe

NUM_ANCHORS = (8, 24)
NUM_DRAWS = 200
THRESHOLDS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)


def recipe_scores(bench: Bench, out: Path) -> Array:
    """Scores (n, R) of the candidates on one set under each choice, the shipped recipe first."""
    found = sets_of(bench, REFERENCE_FRACTION, 1, out)[0]
    choices = recipe_choices(found.recipe)
    return np.stack([bench.few_rows(found.train, r, DISTILLED_SEED).auc for r in choices], axis=1)


def agreements(bench: Bench, scores: Array) -> list[float]:
    """Resolved pairs in order under each choice of recipe."""
    found = [fidelity(bench.full, column)["resolved_pair_accuracy"] for column in scores.T]
    return [0.0 if f is None else f for f in found]


def left_out_choice(tables: dict[str, list[float]], name: str) -> int:
    """The choice with the best mean over all logs but `name`."""
    others = [table for other, table in tables.items() if other != name]
    return int(np.argmax(np.mean(others, axis=0)))


def anchored(bench: Bench, scores: Array, num_anchors: int) -> dict[str, Any]:
    """The recipe chosen on a few anchors, judged on the other candidates; over random anchors.

    Gains are in resolved pairs among the candidates that are no anchors, against the shipped
    recipe on the same pairs; the interval holds 95 % of the draws.
    """
    generator = np.random.default_rng(0)
    num_candidates = len(scores)
    reference = bench.full.ranking.mean(axis=1)
    choices = _choices()
    gains = []
    for _ in range(NUM_DRAWS):
        order = generator.permutation(num_candidates)
        anchors, rest = order[:num_anchors], order[num_anchors:].tolist()
        found = calibration([str(a) for a in anchors], choices, reference[anchors], scores[anchors])
        chosen = choices.index(found.recipe)
        part = bench.full[rest]
        pair = [fidelity(part, scores[rest, c])["resolved_pair_accuracy"] for c in (chosen, 0)]
        if pair[0] is not None and pair[1] is not None:
            gains.append(pair[0] - pair[1])
    low, high = np.quantile(gains, [0.025, 0.975])
    return {
        "num_anchors": num_anchors,
        "gain": float(np.mean(gains)),
        "gain_low": float(low),
        "gain_high": float(high),
    }


def resolution_table(bench: Bench, out: Path) -> list[dict[str, float | None]]:
    """How often pairs that a search calls different are in the order of the full runs.

    Two seeds on one set, as a search takes; a row a threshold, in standard errors of a difference.
    """
    found = sets_of(bench, REFERENCE_FRACTION, 1, out)[0]
    seeds = (DISTILLED_SEED, DISTILLED_SEED + 1)
    scores = np.stack([bench.few_rows(found.train, found.recipe, s).auc for s in seeds], axis=1)
    seed_sd = pooled_seed_sd(scores)
    assert seed_sd is not None
    mean, reference = scores.mean(axis=1), bench.full.ranking.mean(axis=1)
    distance = np.abs(mean[:, None] - mean[None, :])
    pairs = pair_signs(reference) != 0
    return [
        {
            "threshold_sds": t,
            "share_of_pairs": float(np.mean(distance[pairs] > t * seed_sd)),
            "in_order": pair_accuracy(reference, mean, pairs & (distance > t * seed_sd)),
        }
        for t in THRESHOLDS
    ]


def pooled(tables: Sequence[list[dict[str, float | None]]]) -> list[dict[str, float]]:
    """Mean over logs of the rows of `resolution_table`, and the worst log's order."""
    rows = []
    for parts in zip(*tables, strict=True):
        order = [p["in_order"] for p in parts if p["in_order"] is not None]
        rows.append(
            {
                "threshold_sds": float(parts[0]["threshold_sds"] or 0.0),
                "share_of_pairs": float(np.mean([p["share_of_pairs"] for p in parts])),
                "in_order": float(np.mean(order)),
                "in_order_worst": float(np.min(order)),
            }
        )
    return rows


def labels() -> list[str]:
    """What tells the choices apart, in their order."""
    return [f"κ = {r.steps_per_step:g}, exponent {r.dense_drift:g}" for r in _choices()]


def _choices() -> tuple[Recipe, ...]:
    """Those of a set of the size that scores are taken at; a set's own differ by rounding alone."""
    return recipe_choices(matched_recipe(num_rows_full=60, num_slots=1))
