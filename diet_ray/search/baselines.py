"""What a distilled set has to beat: other ways to rank candidates at its cost.

At the distilled run's own cost (same number of rows, steps and evaluation rows):

* random_hard: rows drawn uniformly from the training stream, with their labels;
* random_soft: the same rows, with the proxy's predictions as targets, mixed with the labels as the
  set's own recipe mixes them;
* recent: the last rows of the training stream, with their labels;
* early_stop: full training stopped after as many rows, ranked by progressive log loss relative to
  the other candidates at the same place of the stream, every slice of time counting alike.

At equal amortised cost (the distilled run and its share of the distillation):

* equal_amortised: one pass over an evenly thinned stream;
* halving: such passes over ever thicker streams for ever fewer candidates.

And prior, which trains nothing. The first three take the best of a few recipes by agreement with
the very full runs that they are judged on, which flatters them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from diet_ray.config import to_mapping
from diet_ray.data.batch import Batch, FeatureSpec, concatenate
from diet_ray.data.log import PreparedLog
from diet_ray.models.catalogue import Candidate
from diet_ray.search.agreement import Arm, fidelity
from diet_ray.search.evaluation import EvaluationRows
from diet_ray.search.run_set import DistilledRows, RunSet
from diet_ray.search.runs import (
    FullRunConfig,
    RunResult,
    TrainingRows,
    progressive_run,
    thinned_run,
)
from diet_ray.search.sampling import random_positions, take_rows
from diet_ray.search.size import model_size
from diet_ray.search.statistics import Array
from diet_ray.search.workers import WorkersConfig, run_tasks
from diet_ray.training.loop import distilled_targets
from diet_ray.training.recipe import Recipe

Name = Literal[
    "random_hard", "random_soft", "recent", "early_stop", "equal_amortised", "halving", "prior"
]
BASELINES: tuple[Name, ...] = (
    "random_hard",
    "random_soft",
    "recent",
    "early_stop",
    "equal_amortised",
    "halving",
    "prior",
)

NUM_TIME_SLICES = 4
"""Consecutive slices of an early-stopped run that count alike."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all baselines of one comparison share."""

    candidates: tuple[Candidate, ...]
    seeds: tuple[int, ...]
    log: PreparedLog
    evaluation: EvaluationRows
    full: FullRunConfig
    workers: WorkersConfig
    """Resolved."""

    @property
    def device(self) -> str:
        return "cuda" if self.workers.use_gpu else "cpu"


@dataclass(frozen=True, kw_only=True)
class BaselineOutcome:
    """A baseline's scores (n,), in the candidates' order, higher is better; NaN where it failed."""

    score: Array
    seconds: float
    """Of all its runs together, training and evaluation, in the processes that ran them."""
    row_visits: float
    """Mean of a candidate's runs."""
    details: dict[str, Any]


def random_rows(log: PreparedLog, num_rows: int, seed: int) -> Batch:
    """`num_rows` training rows drawn uniformly, in time order."""
    return take_rows(log, log.train_stages, random_positions(log.num_train_rows, num_rows, seed))


def recent_rows(log: PreparedLog, num_rows: int) -> Batch:
    """The last `num_rows` training rows."""
    first = max(0, log.num_train_rows - num_rows)
    return take_rows(log, log.train_stages, np.arange(first, log.num_train_rows, dtype=np.int64))


def joined(batches: Iterable[Batch]) -> Batch:
    """All rows of a few batches, in order."""
    return concatenate(list(batches))


def hard(batch: Batch) -> TrainingRows:
    """Rows with their labels as targets, all alike."""
    return TrainingRows(batch, batch.label, torch.ones_like(batch.label))


def soft(
    batch: Batch, proxy: Callable[[Batch], Tensor], residual_share: float = 0.0
) -> TrainingRows:
    """Rows with the proxy's predicted probabilities as targets; `proxy` gives logits (B,).

    `residual_share` of the way on to the observed labels, as in a recipe.
    """
    logit = proxy(batch)
    target = distilled_targets(logit, batch.label - torch.sigmoid(logit), residual_share)
    return TrainingRows(batch, target, torch.ones_like(batch.label))


def sample_recipes(recipe: Recipe) -> tuple[Recipe, ...]:
    """Recipes of as many steps: plain ones, and the distilled recipe itself.

    Plain: in time order at three step sizes (a full run's own, the distilled recipe's, and twice
    that one's learning rate), and shuffled at the distilled one.
    """
    plain = Recipe(
        epochs=recipe.epochs,
        batch_share=recipe.batch_share,
        steps_per_step=recipe.steps_per_step,
        row_visit_fraction=recipe.row_visit_fraction,
    )
    sizes = (1.0, recipe.steps_per_step, 4.0 * recipe.steps_per_step)
    recipes = [replace(plain, steps_per_step=k) for k in sizes]
    return (*recipes, replace(plain, order="shuffle"), replace(recipe, residual_share=0.0))


def few_rows(setting: Setting, train: TrainingRows, recipe: Recipe, full: Arm) -> BaselineOutcome:
    """Every candidate on the given rows, under the recipe that agrees best with the full runs."""
    recipes = tuple(dict.fromkeys(sample_recipes(recipe)))
    items = [(candidate, r) for r in recipes for candidate in setting.candidates]
    rows = DistilledRows(
        train=train,
        features=setting.log.features,
        recipe=recipe,
        evaluation=setting.evaluation.ranking_alone(),
    )
    shared = (rows, setting.seeds, setting.device)
    found = run_tasks(_few_rows_runs, shared, items, setting.workers)
    num_candidates, num_seeds = len(setting.candidates), len(setting.seeds)
    tried = []
    for i, r in enumerate(recipes):
        own = found[i * num_candidates : (i + 1) * num_candidates]
        outcomes = [o for runs in own for o in _by_seed(runs, num_seeds)]
        tried.append(_outcome(setting, outcomes, {"recipe": to_mapping(r)}))
    return max(tried, key=lambda o: _agreement(full, o.score))


def _few_rows_runs(
    shared: tuple[DistilledRows, Sequence[int], str], item: tuple[Candidate, Recipe]
) -> tuple[RunResult, ...] | str:
    """One candidate, all seeds side by side."""
    (rows, seeds, device), (candidate, recipe) = shared, item
    runs = RunSet((candidate,), seeds, replace(rows, recipe=recipe), device)
    runs.advance(1.0)
    return runs.results()[0]


def _by_seed(runs: tuple[RunResult, ...] | str, num_seeds: int) -> Sequence[RunResult | str]:
    return [runs] * num_seeds if isinstance(runs, str) else runs


def _agreement(full: Arm, score: Array) -> tuple[float, float]:
    known = np.flatnonzero(np.isfinite(score)).tolist()
    found = fidelity(full[known], score[known])
    worst = -math.inf
    tau, accuracy = found["kendall_tau"], found["resolved_pair_accuracy"]
    return (worst if tau is None else tau, worst if accuracy is None else accuracy)


def early_stop(setting: Setting, first: Batch) -> BaselineOutcome:
    """Every candidate on the first rows of the stream, as a full run would begin."""
    items = [(c, s) for c in setting.candidates for s in setting.seeds]
    shared = (first, setting.log.features, setting.full, setting.device)
    outcomes = run_tasks(_early_stop_run, shared, items, setting.workers)
    num_seeds = len(setting.seeds)
    losses = np.full((len(items), NUM_TIME_SLICES), np.nan)
    seconds = 0.0
    for i, outcome in enumerate(outcomes):
        if not isinstance(outcome, str):
            losses[i], seconds = outcome[0], seconds + outcome[1]
    by_candidate = losses.reshape(-1, num_seeds, NUM_TIME_SLICES).mean(axis=1)
    return BaselineOutcome(
        score=relative_score(by_candidate),
        seconds=seconds,
        row_visits=float(len(first)),
        details={"num_time_slices": NUM_TIME_SLICES},
    )


def _early_stop_run(
    shared: tuple[Batch, FeatureSpec, FullRunConfig, str], item: tuple[Candidate, int]
) -> tuple[Array, float]:
    (first, features, config, device), (candidate, seed) = shared, item
    return progressive_run(
        candidate, first, features, seed, config, num_slices=NUM_TIME_SLICES, device=device
    )


def relative_score(losses: Array) -> Array:
    """Scores (n,) from log losses (n, slices): per slice relative to the candidates' mean and SD.

    What a slice has in common for all (how hard its rows are) drops out, and none outweighs the
    others by its spread. Rows with NaN stay NaN and don't enter the means.
    """
    known = np.isfinite(losses).all(axis=1)
    score = np.full(len(losses), np.nan)
    if known.any():
        centred = losses[known] - losses[known].mean(axis=0)
        sd = centred.std(axis=0)
        score[known] = -(centred / np.where(sd > 0, sd, 1.0)).mean(axis=1)
    return score


def equal_amortised(setting: Setting, fraction: float) -> BaselineOutcome:
    """Every candidate once over the stream thinned to `fraction` of its rows."""
    outcomes = _thinned(setting, setting.candidates, fraction)
    return _outcome(setting, outcomes, {"stream_fraction": fraction})


def halving_fractions(num_candidates: int, fraction: float) -> list[tuple[int, float]]:
    """(survivors, stream fraction) of each rung, every rung costing alike, at most a full pass.

    All rungs together cost what one pass of every candidate at `fraction` does.
    """
    survivors = [num_candidates]
    while survivors[-1] > 2:
        survivors.append(math.ceil(survivors[-1] / 2))
    share = num_candidates * fraction / len(survivors)
    return [(n, min(1.0, share / n)) for n in survivors]


def halving_score(
    num_candidates: int,
    rungs: Sequence[tuple[int, float]],
    judge: Callable[[list[int], float], Array],
) -> Array:
    """Scores (n,) by how far candidates came, then by AUC on that rung; NaN where a run failed.

    `judge(candidates, stream fraction)` gives the AUC of each of the candidates at a rung.
    """
    alive = list(range(num_candidates))
    score = np.full(num_candidates, np.nan)
    for rung, (num_survivors, share) in enumerate(rungs):
        if not alive:
            break
        alive = sorted(alive, key=lambda i: -score[i])[:num_survivors]
        # AUC is below 2, so a later rung always ranks above an earlier one.
        score[alive] = 2.0 * rung + judge(alive, share)
        alive = [i for i in alive if np.isfinite(score[i])]
    return score


def halving(setting: Setting, fraction: float) -> BaselineOutcome:
    """Successive halving; each rung trains its survivors afresh, on a thicker stream.

    Afresh, as a model that has seen the end of the stream can't go back to rows left out without
    losing the order of time. Candidates rank by how far they came, then by AUC on that rung.
    """
    rungs = halving_fractions(len(setting.candidates), fraction)
    seconds = row_visits = 0.0

    def judge(alive: list[int], share: float) -> Array:
        nonlocal seconds, row_visits
        candidates = tuple(setting.candidates[i] for i in alive)
        outcome = _outcome(setting, _thinned(setting, candidates, share), {}, candidates)
        seconds += outcome.seconds
        row_visits += outcome.row_visits * len(alive)
        return outcome.score

    score = halving_score(len(setting.candidates), rungs, judge)
    return BaselineOutcome(
        score=score,
        seconds=seconds,
        row_visits=row_visits / len(setting.candidates),
        details={"rungs": [{"candidates": n, "stream_fraction": f} for n, f in rungs]},
    )


def _thinned(
    setting: Setting, candidates: Sequence[Candidate], fraction: float
) -> list[RunResult | str]:
    items = [(c, s, fraction) for c in candidates for s in setting.seeds]
    shared = (setting.log, setting.evaluation, setting.full, setting.device)
    return run_tasks(_thinned_run, shared, items, setting.workers)


def _thinned_run(
    shared: tuple[PreparedLog, EvaluationRows, FullRunConfig, str],
    item: tuple[Candidate, int, float],
) -> RunResult:
    (log, evaluation, config, device), (candidate, seed, fraction) = shared, item
    return thinned_run(candidate, log, seed, evaluation, config, fraction=fraction, device=device)


def _outcome(
    setting: Setting,
    outcomes: Sequence[RunResult | str],
    details: dict[str, Any],
    candidates: Sequence[Candidate] | None = None,
) -> BaselineOutcome:
    """Runs in the order candidate, seed: means over seeds."""
    num_candidates = len(setting.candidates if candidates is None else candidates)
    runs = [o for o in outcomes if not isinstance(o, str)]
    auc = [math.nan if isinstance(o, str) else o.evaluation.auc for o in outcomes]
    return BaselineOutcome(
        score=np.array(auc).reshape(num_candidates, -1).mean(axis=1),
        seconds=sum(r.seconds for r in runs),
        row_visits=float(np.mean([r.row_visits for r in runs])) if runs else 0.0,
        details=details,
    )


def parameter_counts(candidates: Sequence[Candidate], features: FeatureSpec) -> Array:
    """Trainable numbers of each candidate (n,): the prior that larger is better."""
    sizes = [model_size(c, features) for c in candidates]
    return np.array([size.dense + size.table for size in sizes], dtype=np.float64)


def mean_ranks(candidates: Sequence[Candidate], reports: Sequence[dict[str, Any]]) -> Array:
    """Minus each candidate's mean full-run rank on other logs, as a share of their lists, (n,).

    `reports` are consistency reports; candidates are recognised by name. NaN if none has it.
    """
    ranks: dict[str, list[float]] = {}
    for report in reports:
        means = {
            c["name"]: float(np.mean(c["full"]["auc"]))
            for c in report["candidates"]
            if c["full"]["auc"]
        }
        for name, value in means.items():
            ahead = sum(other > value for other in means.values())
            level = sum(other == value for other in means.values()) - 1
            ranks.setdefault(name, []).append((ahead + level / 2) / max(len(means) - 1, 1))
    return np.array(
        [-float(np.mean(ranks[c.name])) if c.name in ranks else np.nan for c in candidates]
    )


def prior(setting: Setting, reports: Sequence[dict[str, Any]]) -> BaselineOutcome:
    """The mean rank on other logs where every candidate has one, else the parameter count."""
    score = mean_ranks(setting.candidates, reports)
    by = "mean_rank"
    if not np.isfinite(score).all():
        score = parameter_counts(setting.candidates, setting.log.features)
        by = "num_parameters"
    details = {"by": by, "num_other_logs": len(reports)}
    return BaselineOutcome(score=score, seconds=0.0, row_visits=0.0, details=details)
