"""A log, its candidates, their full runs, and their scores after training on few of its rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.laboratory.ledger import Ledger, key_of
from benchmarks.laboratory.logs import LogSource
from benchmarks.laboratory.workers import run_all
from diet_ray.config import to_mapping
from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.data.log import PreparedLog
from diet_ray.models.base import Recommender
from diet_ray.models.catalogue import Candidate, build, fields_of
from diet_ray.search.agreement import Arm
from diet_ray.search.evaluation import EvaluationRows
from diet_ray.search.runs import TrainingRows
from diet_ray.search.statistics import Array
from diet_ray.training.loop import fit_distilled, predict
from diet_ray.training.metrics import auc
from diet_ray.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Scores:
    auc: Array
    """(n,), 0 where a run diverged."""
    seconds: float
    """Of all runs together, training and evaluation on the ranking slice."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all methods on one log share."""

    name: str
    log: PreparedLog
    source: LogSource
    candidates: tuple[Candidate, ...]
    train: Batch
    """All training rows, in time order."""
    evaluation: EvaluationRows
    full: Arm
    """Full runs, (n, seeds)."""
    full_seconds: float
    """Of one full run of every candidate."""
    ledger: Ledger
    num_workers: int

    @property
    def features(self) -> FeatureSpec:
        return self.log.features

    @property
    def ranking_rows(self) -> Batch:
        """The ranking slice, which alone says how a method ranks."""
        return self.evaluation.batch[: self.evaluation.num_ranking]

    def measured(
        self, key: str, function: Callable[..., float], items: list[Any], shared: object
    ) -> Scores:
        """`function((bench, shared), item)` for every item, in parallel, unless it is known."""
        known = self.ledger.get(key)
        if known is None:
            timed = list(run_all(_timed, (function, (self, shared)), items, self.num_workers))
            known = {"auc": [a for a, _ in timed], "seconds": sum(s for _, s in timed)}
            self.ledger.put(key, known)
        return Scores(auc=np.array(known["auc"]), seconds=known["seconds"])

    def few_rows(self, train: TrainingRows, recipe: Recipe, seed: int) -> Scores:
        """Every candidate trained on `train`."""
        batch = train.batch
        tensors = (*batch.tensors, train.target, train.weight)
        key = self.key("few", to_mapping(recipe), seed, tensors=tensors)
        items = [(candidate, seed) for candidate in self.candidates]
        return self.measured(key, _few_rows, items, (train, recipe))

    def key(self, *parts: Any, tensors: tuple[Any, ...] = ()) -> str:
        identities = [c.identity for c in self.candidates]
        where = (self.log.fingerprint, len(self.evaluation), identities)
        return key_of(*where, *parts, tensors=tensors)


def _timed(shared: tuple[Callable[..., float], object], item: Any) -> tuple[Any, float]:
    function, rest = shared
    begin_s = time.process_time()
    return function(rest, item), time.process_time() - begin_s


def _few_rows(
    shared: tuple[Bench, tuple[TrainingRows, Recipe]], item: tuple[Candidate, int]
) -> float:
    (bench, (train, recipe)), (candidate, seed) = shared, item
    return distilled_auc(bench, train, recipe, candidate, seed, bench.ranking_rows)


def distilled_auc(
    bench: Bench,
    train: TrainingRows,
    recipe: Recipe,
    candidate: Candidate,
    seed: int,
    judged: Batch,
) -> float:
    """AUC on the rows `judged` of a candidate trained on `train`; 0 if it diverged."""
    model = build(candidate, bench.features, seed)
    rows = train.select(fields_of(candidate, bench.features))
    fit_distilled(
        model,
        rows.batch,
        rows.target,
        rows.weight,
        recipe,
        candidate.optimizer,
        candidate.batch_size,
        seed,
    )
    return auc_on(bench, candidate, model, judged)


def auc_on(bench: Bench, candidate: Candidate, model: Recommender, rows: Batch) -> float:
    """AUC of a candidate's trained model; 0 if it diverged."""
    logit = predict(model, fields_of(candidate, bench.features)(rows))
    return float(auc(rows.label, logit)) if bool(logit.isfinite().all()) else 0.0
