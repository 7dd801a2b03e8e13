"""What distilled runs have to beat at their own cost, as scores of candidates, higher is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from benchmarks.laboratory.bench import Bench, Scores, auc_on
from benchmarks.laboratory.distilled import Distilled
from diet_ray.data.batch import Batch
from diet_ray.models.catalogue import Candidate, build, fields_of
from diet_ray.search.agreement import fidelity
from diet_ray.search.baselines import (
    NUM_TIME_SLICES,
    halving_fractions,
    halving_score,
    hard,
    relative_score,
    sample_recipes,
    soft,
)
from diet_ray.search.runs import FullRunConfig, TrainingRows, progressive_run
from diet_ray.search.sampling import random_positions, uniform
from diet_ray.search.statistics import Array
from diet_ray.training.loop import fit

DISTILLED_SEED, BASELINE_SEED = 1_000_000, 2_000_000
FEW_ROWS = ("random_soft", "random_hard", "recent")
PER_STREAM = ("subsample", "halving", "early_stop")


def distilled_scores(bench: Bench, sets: Sequence[Distilled]) -> list[Scores]:
    """Every candidate once on each distilled set."""
    return [bench.few_rows(s.train, s.recipe, DISTILLED_SEED + i) for i, s in enumerate(sets)]


def baseline_rows(bench: Bench, name: str, found: Distilled, index: int) -> TrainingRows:
    """As many rows as the set has, of one of `FEW_ROWS`; another draw for every `index`."""
    total, num_rows = len(bench.train), len(found.train)
    if name == "recent":
        return hard(bench.train[total - num_rows :])
    chosen = torch.from_numpy(random_positions(total, num_rows, BASELINE_SEED + index))
    rows = bench.train[chosen]
    if name == "random_hard":
        return hard(rows)
    return soft(rows, lambda _: found.teacher[chosen], found.recipe.residual_share)


def best_recipe(bench: Bench, name: str, found: Distilled) -> int:
    """The place, in `sample_recipes`, of the recipe that agrees best with the full runs themselves.

    No user could choose it, which flatters the baseline.
    """
    rows = baseline_rows(bench, name, found, 0)
    scores = [bench.few_rows(rows, r, BASELINE_SEED).auc for r in sample_recipes(found.recipe)]
    agreement = [fidelity(bench.full, s)["resolved_pair_accuracy"] or 0.0 for s in scores]
    return int(np.argmax(agreement))


def few_rows_baseline(
    bench: Bench, name: str, recipe: int, sets: Sequence[Distilled]
) -> list[Scores]:
    """One of `FEW_ROWS` under the recipe at that place, once for each distilled set."""
    return [
        bench.few_rows(
            baseline_rows(bench, name, s, i), sample_recipes(s.recipe)[recipe], BASELINE_SEED + i
        )
        for i, s in enumerate(sets)
    ]


def stream_baseline(bench: Bench, name: str, fraction: float, seed: int) -> Scores:
    """One of `PER_STREAM` at `fraction` of the visits, at every candidate's own batch and rate."""
    if name == "subsample":
        return subsampled(bench, fraction, seed, list(range(len(bench.candidates))))
    if name == "halving":
        return _halving(bench, fraction, seed)
    first = bench.train[: round(fraction * len(bench.train))]
    key = bench.key("early_stop", len(first), seed)
    found = bench.measured(key, _first_rows, [(c, seed) for c in bench.candidates], first)
    return replace(found, auc=relative_score(found.auc))


def subsampled(bench: Bench, fraction: float, seed: int, alive: list[int]) -> Scores:
    """The candidates at `alive`, each over one pass of the evenly thinned stream."""
    keys = uniform(np.arange(len(bench.train), dtype=np.int64), seed)
    rows = bench.train[torch.from_numpy(np.flatnonzero(keys < fraction))]
    items = [(bench.candidates[i], seed) for i in alive]
    return bench.measured(bench.key("thinned", fraction, seed, alive), _thinned, items, rows)


def _halving(bench: Bench, fraction: float, seed: int) -> Scores:
    seconds = 0.0

    def judge(alive: list[int], share: float) -> Array:
        nonlocal seconds
        found = subsampled(bench, share, seed, sorted(alive))
        seconds += found.seconds
        return found.auc[np.argsort(np.argsort(alive))]

    num_candidates = len(bench.candidates)
    score = halving_score(num_candidates, halving_fractions(num_candidates, fraction), judge)
    return Scores(auc=score, seconds=seconds)


def _thinned(shared: tuple[Bench, Batch], item: tuple[Candidate, int]) -> float:
    (bench, rows), (candidate, seed) = shared, item
    model = build(candidate, bench.features, seed)
    selected = fields_of(candidate, bench.features)(rows)
    fit(model, [selected], candidate.optimizer, candidate.batch_size)
    return auc_on(bench, candidate, model, bench.ranking_rows)


def _first_rows(shared: tuple[Bench, Batch], item: tuple[Candidate, int]) -> list[float]:
    (bench, first), (candidate, seed) = shared, item
    losses, _ = progressive_run(
        candidate, first, bench.features, seed, FullRunConfig(), num_slices=NUM_TIME_SLICES
    )
    return [float(x) for x in losses]
