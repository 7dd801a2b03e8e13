"""The stream's promise: after every stage the set so far ranks as full training so far does."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.laboratory.bench import Bench, auc_on, distilled_auc
from benchmarks.laboratory.distilled import REFERENCE_FRACTION, default_config, distilling
from benchmarks.laboratory.methods import DISTILLED_SEED
from diet_ray.data.batch import Batch
from diet_ray.data.encoding import to_batch
from diet_ray.data.log import Stage
from diet_ray.distillation.budget import BudgetConfig
from diet_ray.models.catalogue import Candidate, build, fields_of
from diet_ray.search.agreement import Arm, ceiling, fidelity
from diet_ray.search.runs import TrainingRows
from diet_ray.search.sampling import even_positions
from diet_ray.search.statistics import Array
from diet_ray.training.loop import distilled_targets, fit
from diet_ray.training.optimizer import ClickOptimizer
from diet_ray.training.recipe import Recipe, matched_recipe

NUM_CHECKS = 4
FULL_SEEDS = (0, 1)
JUDGED_ROWS = 10_000
EVERY = 2
"""Every second candidate takes part."""


def by_stage(bench: Bench) -> dict[str, Any]:
    """Tau by stage against its ceiling, for a growing and a fixed budget.

    Candidates are judged on the rows of the stage that comes next, which neither arm has seen. With
    two full runs each, a distilled run is held, as the ceiling is, against one of them at a time.
    """
    stages = bench.log.train_stages
    checks = [round((i + 1) * len(stages) / NUM_CHECKS) - 1 for i in range(NUM_CHECKS)]
    candidates = bench.candidates[::EVERY]
    nexts = [_next_rows(bench, at) for at in checks]
    full = _full(bench, candidates, checks, nexts)
    growing = BudgetConfig(fraction=REFERENCE_FRACTION)
    fixed = BudgetConfig(slots=growing.capacity(bench.log.num_train_rows) // 2)
    return {
        name: _budget(bench, candidates, checks, nexts, full, budget)
        for name, budget in (("growing", growing), ("fixed", fixed))
    }


def _budget(
    bench: Bench,
    candidates: tuple[Candidate, ...],
    checks: list[int],
    nexts: list[Batch],
    full: list[Arm],
    budget: BudgetConfig,
) -> list[dict[str, Any]]:
    rows = []
    for (train, recipe, forgetting), stage, next_rows, arm in zip(
        _sets(bench, checks, budget), checks, nexts, full, strict=True
    ):
        fields = (train.batch.categorical, train.target, train.weight, next_rows.label)
        key = bench.key("stream", stage, len(candidates), str(recipe), tensors=fields)
        shared = (train, recipe, next_rows)
        items = [(c, DISTILLED_SEED) for c in candidates]
        scores = bench.measured(key, _distilled_run, items, shared).auc
        found, limit = fidelity(arm, scores), ceiling(arm)
        rows.append(
            {
                "stage": stage,
                "slots": len(train),
                "row_fraction": recipe.row_visit_fraction,
                "kendall_tau": found["kendall_tau_matched"],
                "kendall_tau_ceiling": limit["kendall_tau_ceiling"],
                "resolved_pair_accuracy": found["resolved_pair_accuracy_matched"],
                "resolved_pair_accuracy_ceiling": limit["resolved_pair_accuracy_ceiling"],
                "least_represented_stage": forgetting,
            }
        )
    return rows


def _next_rows(bench: Bench, check: int) -> Batch:
    """Evenly spaced rows of the stage after the one numbered `check`; the test after the last."""
    stages = bench.log.train_stages
    if check + 1 >= len(stages):
        return bench.ranking_rows
    after = bench.log.load((stages[check + 1],))
    return after[torch.from_numpy(even_positions(len(after), JUDGED_ROWS))]


def _full(
    bench: Bench, candidates: tuple[Candidate, ...], checks: list[int], nexts: list[Batch]
) -> list[Arm]:
    """Full runs up to each check, judged on what comes next."""
    items = [(c, seed) for c in candidates for seed in FULL_SEEDS]
    ends = [int(np.sum([s.num_rows for s in bench.log.train_stages[: at + 1]])) for at in checks]
    key = bench.key("stream full", ends, len(candidates), FULL_SEEDS)
    found = bench.measured(key, _full_run, items, (ends, nexts)).auc
    by_candidate: Array = found.reshape(len(candidates), len(FULL_SEEDS), len(checks))
    return [
        Arm(
            ranking=by_candidate[:, :, i],
            regret=by_candidate[:, :, i],
            blocks=np.empty((len(candidates), len(FULL_SEEDS), 0)),
        )
        for i in range(len(checks))
    ]


def _full_run(
    shared: tuple[Bench, tuple[list[int], list[Batch]]], item: tuple[Candidate, int]
) -> list[float]:
    (bench, (ends, nexts)), (candidate, seed) = shared, item
    select = fields_of(candidate, bench.features)
    model = build(candidate, bench.features, seed)
    optimizer = ClickOptimizer(model, candidate.optimizer)
    found, begin = [], 0
    for end, rows in zip(ends, nexts, strict=True):
        fit(model, [select(bench.train[begin:end])], optimizer, candidate.batch_size)
        found.append(auc_on(bench, candidate, model, rows))
        begin = end
    return found


def _distilled_run(
    shared: tuple[Bench, tuple[TrainingRows, Recipe, Batch]], item: tuple[Candidate, int]
) -> float:
    (bench, (train, recipe, next_rows)), (candidate, seed) = shared, item
    return distilled_auc(bench, train, recipe, candidate, seed, next_rows)


def _sets(
    bench: Bench, checks: list[int], budget: BudgetConfig
) -> list[tuple[TrainingRows, Recipe, float]]:
    """The memory after each check: rows, recipe, and how well its worst stage is represented.

    The last is the smallest, over birth stages, of a stage's share of the slots over its share of
    the rows: 1 where nothing is forgotten, 0 where a stage is gone.
    """
    log = bench.log
    config = replace(default_config(bench.source, REFERENCE_FRACTION, 0), budget=budget)
    found, begin = [], 0
    with (
        tempfile.TemporaryDirectory(prefix="diet-stream-") as folder,
        distilling(log, config, Path(folder)) as (distiller, memory),
    ):
        for check in checks:
            distiller.run(log.train_stages[begin : check + 1])
            begin = check + 1
            found.append(_snapshot(memory.slots(), log.train_stages[:begin], bench))
    return found


def _snapshot(
    slots: Any, stages: tuple[Stage, ...], bench: Bench
) -> tuple[TrainingRows, Recipe, float]:
    rows_seen = sum(s.num_rows for s in stages)
    slots = slots.sort_by("_row")
    recipe = matched_recipe(num_rows_full=rows_seen, num_slots=slots.num_rows)
    soft_label = torch.from_numpy(slots["_soft_label"].to_numpy().copy())
    residual = torch.from_numpy(slots["_residual"].to_numpy().copy())
    target = distilled_targets(soft_label, residual, recipe.residual_share)
    weight = torch.from_numpy(slots["_weight"].to_numpy().copy()).float()
    born = np.bincount(slots["_birth_stage"].to_numpy(), minlength=stages[-1].index + 1)
    shares = [born[s.index] / slots.num_rows / (s.num_rows / rows_seen) for s in stages]
    rows = TrainingRows(to_batch(slots, bench.features), target, weight)
    return rows, recipe, float(min(shares))
