"""The distilled runs and what they have to beat at their own cost, as scores of candidates.

Each method gives an array (n, S): candidates × seeds, higher is better. A seed is another
distillation, other rows and another initialisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.laboratory.distilled import Distilled
from benchmarks.laboratory.workers import run_all
from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.catalogue import Candidate
from diet_ray.search.agreement import Arm, fidelity
from diet_ray.search.baselines import (
    NUM_TIME_SLICES,
    halving_fractions,
    halving_score,
    hard,
    relative_score,
    sample_recipes,
    soft,
)
from diet_ray.search.evaluation import EvaluationRows
from diet_ray.search.runs import (
    FullRunConfig,
    TrainingRows,
    distilled_run,
    progressive_run,
    streamed_run,
)
from diet_ray.search.sampling import random_positions, uniform
from diet_ray.search.statistics import Array
from diet_ray.training.recipe import Recipe

_DISTILLED_SEEDS, _BASELINE_SEEDS = 1_000_000, 2_000_000


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all methods on one log share."""

    candidates: tuple[Candidate, ...]
    features: FeatureSpec
    train: Batch
    """All training rows, in time order."""
    evaluation: EvaluationRows
    full: Arm
    """Full runs, (n, seeds)."""
    num_workers: int

    def scores(self, function: Callable[..., float], items: list[tuple], shared: object) -> Array:
        """`function((bench, shared), item)` of every item, in parallel; NaN where it diverged."""
        return np.array(list(run_all(function, (self, shared), items, self.num_workers)))


def distilled_scores(bench: Bench, sets: list[Distilled]) -> Array:
    """Every candidate once on each distilled set."""
    columns = [few_rows(bench, s.train, s.recipe, _DISTILLED_SEEDS + i) for i, s in enumerate(sets)]
    return np.stack(columns, axis=1)


def few_rows(bench: Bench, train: TrainingRows, recipe: Recipe, seed: int) -> Array:
    """AUC (n,) of every candidate trained on `train`."""
    items = [(candidate, seed) for candidate in bench.candidates]
    return bench.scores(_few_rows, items, (train, recipe))


def _few_rows(
    shared: tuple[Bench, tuple[TrainingRows, Recipe]], item: tuple[Candidate, int]
) -> float:
    (bench, (train, recipe)), (candidate, seed) = shared, item
    try:
        run = distilled_run(candidate, train, bench.features, recipe, bench.evaluation, seed)
    except ArithmeticError:
        return 0.0
    return run.evaluation.auc


def baseline_scores(bench: Bench, sets: list[Distilled]) -> dict[str, Array]:
    """Scores (n, S) of every baseline at the cost of the distilled runs.

    The first three take the recipe that agrees best with the full runs, which flatters them.
    """
    num_rows, total = len(sets[0].train), len(bench.train)
    seeds = [_BASELINE_SEEDS + i for i in range(len(sets))]
    random = [
        bench.train[torch.from_numpy(random_positions(total, num_rows, seed))] for seed in seeds
    ]
    recent = hard(bench.train[total - num_rows :])
    recipe = sets[0].recipe
    return {
        "random_hard": _best_recipe(bench, [hard(rows) for rows in random], recipe, seeds),
        "random_soft": _best_recipe(
            bench, [soft(r, s.teacher) for r, s in zip(random, sets, strict=True)], recipe, seeds
        ),
        "recent": _best_recipe(bench, [recent] * len(seeds), recipe, seeds),
        "early_stop": np.stack([_early_stop(bench, num_rows, seed) for seed in seeds], axis=1),
        "halving": np.stack([_halving(bench, num_rows / total, seed) for seed in seeds], axis=1),
    }


def _best_recipe(bench: Bench, rows: list[TrainingRows], recipe: Recipe, seeds: list[int]) -> Array:
    tried = [
        np.stack([few_rows(bench, t, r, s) for t, s in zip(rows, seeds, strict=True)], axis=1)
        for r in sample_recipes(recipe)
    ]
    return max(
        tried, key=lambda s: fidelity(bench.full, s.mean(axis=1))["resolved_pair_accuracy"] or 0.0
    )


def _early_stop(bench: Bench, num_rows: int, seed: int) -> Array:
    items = [(candidate, seed) for candidate in bench.candidates]
    return relative_score(bench.scores(_first_rows, items, bench.train[:num_rows]))


def _first_rows(shared: tuple[Bench, Batch], item: tuple[Candidate, int]) -> Array:
    (bench, first), (candidate, seed) = shared, item
    losses, _ = progressive_run(
        candidate, first, bench.features, seed, FullRunConfig(), num_slices=NUM_TIME_SLICES
    )
    return losses


def _halving(bench: Bench, fraction: float, seed: int) -> Array:
    keys = uniform(np.arange(len(bench.train), dtype=np.int64), seed)

    def judge(alive: list[int], share: float) -> Array:
        rows = bench.train[torch.from_numpy(np.flatnonzero(keys < share))]
        return bench.scores(_thinned, [(bench.candidates[i], seed) for i in alive], rows)

    num_candidates = len(bench.candidates)
    return halving_score(num_candidates, halving_fractions(num_candidates, fraction), judge)


def _thinned(shared: tuple[Bench, Batch], item: tuple[Candidate, int]) -> float:
    (bench, rows), (candidate, seed) = shared, item
    try:
        run = streamed_run(
            candidate, bench.features, [rows], seed, bench.evaluation, FullRunConfig()
        )
    except ArithmeticError:
        return 0.0
    return run.evaluation.auc
