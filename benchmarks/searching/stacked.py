"""Seeds of a small model one at a time, and side by side, on one thread."""

from __future__ import annotations

import time
from statistics import stdev
from typing import Any

import torch

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.catalogue import Candidate
from diet_ray.search.evaluation import EvaluationRows
from diet_ray.search.runs import DistilledRun, TrainingRows
from diet_ray.search.stacks import Member, StackedRun
from diet_ray.training.recipe import Recipe, matched_recipe

NUM_SEEDS = 8
NUM_ROWS, NUM_FIELDS, NUM_IDS = 6_000, 10, 100
ROUNDS = 3
MODELS = ("dnn", "deepfm", "dcnv2", "autoint")
FEATURES = FeatureSpec(
    categorical=tuple(f"field-{i}" for i in range(NUM_FIELDS)),
    num_ids=(NUM_IDS,) * NUM_FIELDS,
    numeric=(),
    sequence=(),
)


def stacked() -> dict[str, Any]:
    """By model: the ratio of CPU seconds, best of some rounds, and the largest difference of AUC.

    As a yardstick for that, the largest one that first weights changed by 1e-7 of their size make.
    """
    torch.set_num_threads(1)
    train, rows = _rows(0), EvaluationRows(_rows(1), NUM_ROWS // 2)
    recipe = matched_recipe(num_rows_full=100 * NUM_ROWS, num_slots=NUM_ROWS)
    target = TrainingRows(train, train.label * 0.8 + 0.1, torch.ones(NUM_ROWS))
    found = {}
    for name in MODELS:
        candidate = Candidate(name=name, architecture=name, hidden_sizes=(64, 32))
        alone_s, together_s, difference = [], [], 0.0
        for _ in range(ROUNDS):
            begin_s = time.process_time()
            aucs = []
            for seed in range(NUM_SEEDS):
                run = DistilledRun(candidate, target, FEATURES, recipe, seed)
                run.advance(run.num_steps_planned)
                aucs.append(run.result(rows).evaluation.auc)
            alone_s.append(time.process_time() - begin_s)
            begin_s = time.process_time()
            members = [Member(candidate, seed) for seed in range(NUM_SEEDS)]
            stack = StackedRun(members, target, FEATURES, recipe)
            stack.advance(stack.num_steps_planned)
            results = [r for r in stack.results(rows) if not isinstance(r, str)]
            together_s.append(time.process_time() - begin_s)
            gaps = [abs(a - r.evaluation.auc) for a, r in zip(aucs, results, strict=True)]
            difference = max(difference, *gaps)
        found[name] = {
            "speedup": min(alone_s) / min(together_s),
            "largest_auc_difference": difference,
            "by_rounding": max(
                abs(_nudged(candidate, target, recipe, rows, seed) - auc)
                for seed, auc in enumerate(aucs)
            ),
            "seed_sd": stdev(aucs),
        }
    return found


def _nudged(
    candidate: Candidate, train: TrainingRows, recipe: Recipe, rows: EvaluationRows, seed: int
) -> float:
    run = DistilledRun(candidate, train, FEATURES, recipe, seed)
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.mul_(1.0 + 1e-7)
    run.advance(run.num_steps_planned)
    return run.result(rows).evaluation.auc


def _rows(seed: int) -> Batch:
    """Labels follow the ids, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    appeal = torch.randn(NUM_IDS, generator=torch.Generator().manual_seed(9))
    ids = torch.randint(2, NUM_IDS, (NUM_ROWS, NUM_FIELDS), generator=generator)
    probability = torch.sigmoid(appeal[ids].sum(dim=1) * 0.5)
    return Batch(
        ids.to(torch.int32),
        torch.zeros(NUM_ROWS, 0),
        torch.zeros(NUM_ROWS, 0, 0, dtype=torch.int32),
        torch.bernoulli(probability, generator=generator),
    )
