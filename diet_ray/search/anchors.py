"""Calibrates the recipe on anchors: candidates whose full results a person has already.

Notation: A anchors, R choices of a recipe; `full` (A,) are AUCs of full runs, `scores` (A, R) those
of distilled runs under each choice, the shipped recipe in column 0. Agreement is the share of
anchor pairs that a choice puts in the full results' order; ties in its scores count half, pairs
with equal full results are left out.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray

from diet_ray.config import from_mapping, load_yaml
from diet_ray.errors import ConfigError
from diet_ray.models.catalogue import Candidate
from diet_ray.search.run_set import DistilledRows, RunSet
from diet_ray.search.statistics import Array, PairMask, pair_accuracy
from diet_ray.search.trials import SearchConfig
from diet_ray.search.workers import WorkersConfig, run_tasks
from diet_ray.training.recipe import Recipe

MIN_ANCHORS = 3
"""Fewer leave no pair to choose on once one is left out."""
FAILED = 0.0
"""Score of an anchor whose run failed: below any model's AUC, and finite, as pairs need it."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Which recipe the anchors speak for, and how far to believe them."""

    anchors: tuple[str, ...]
    """Names of candidates."""
    choices: tuple[Recipe, ...]
    """The shipped recipe first."""
    agreements: tuple[float, ...]
    """Of each choice with the full results, over all pairs of anchors."""
    chosen: Recipe
    """The choice that agrees best: flattered, as it is judged on what it was chosen on."""
    left_out_agreement: float
    """The honest figure: pairs with an anchor, under the recipe chosen on the others; the mean."""
    shipped_agreement: float
    """The shipped recipe on the same pairs."""
    gain_error: float
    """Standard error over anchors of the difference of both."""

    @property
    def helps(self) -> bool:
        """Whether choosing beats the shipped recipe, on anchors it hasn't seen, by more than one
        standard error: a few anchors speak for a wrong recipe as often as for a right one."""
        return self.left_out_agreement - self.shipped_agreement > self.gain_error

    @property
    def recipe(self) -> Recipe:
        """The one to search with."""
        return self.chosen if self.helps else self.choices[0]


def recipe_choices(recipe: Recipe) -> tuple[Recipe, ...]:
    """The shipped recipe, then others of as many row visits whose steps are longer or shorter."""

    def drifting(exponent: float) -> Recipe:
        return replace(recipe, dense_drift=exponent, table_drift=exponent)

    shorter = replace(
        drifting(0.0),
        steps_per_step=recipe.steps_per_step / 2,
        batch_share=recipe.batch_share / 2,
    )
    return tuple(dict.fromkeys((recipe, drifting(0.0), drifting(0.5), drifting(1.0), shorter)))


def choose(full: Array, scores: Array) -> int:
    """The choice with the highest agreement; ties go to the earlier, so to the shipped recipe."""
    return int(np.argmax(_agreements(full, scores)))


def left_out_agreements(full: Array, scores: Array) -> tuple[float, float, float]:
    """(calibrated, shipped): agreement over the pairs of one anchor, averaged over the anchors.

    The recipe that an anchor is scored under is chosen on the others. The third figure is the
    standard error of calibrated − shipped over anchors.
    """
    found = []
    for anchor in range(len(full)):
        others = np.arange(len(full)) != anchor
        chosen = choose(full[others], scores[others])
        pairs = np.zeros((len(full), len(full)), dtype=bool)
        pairs[anchor, others] = True
        found.append([_agreement(full, scores[:, choice], pairs) for choice in (chosen, 0)])
    calibrated, shipped = np.mean(found, axis=0).tolist()
    gains = np.subtract(*np.transpose(found))
    return calibrated, shipped, float(np.std(gains, ddof=1) / np.sqrt(len(gains)))


def calibration(
    anchors: Sequence[str], choices: Sequence[Recipe], full: Array, scores: Array
) -> Calibration:
    """What the scores (A, R) of the named anchors under the choices say, given `full` (A,)."""
    left_out, shipped, error = left_out_agreements(full, scores)
    return Calibration(
        anchors=tuple(anchors),
        choices=tuple(choices),
        agreements=tuple(_agreements(full, scores)),
        chosen=choices[choose(full, scores)],
        left_out_agreement=left_out,
        shipped_agreement=shipped,
        gain_error=error,
    )


def _agreements(full: Array, scores: Array) -> list[float]:
    everything = np.ones((len(full), len(full)), dtype=bool)
    return [_agreement(full, score, everything) for score in scores.T]


def _agreement(full: Array, score: Array, pairs: PairMask) -> float:
    """A coin's without a pair to judge by, so that no choice is preferred."""
    found = pair_accuracy(full, score, pairs & (full[:, None] != full[None, :]))
    return 0.5 if found is None else found


def calibrate(
    anchors: Mapping[str, float],
    candidates: Sequence[Candidate],
    rows: DistilledRows,
    config: SearchConfig,
    workers: WorkersConfig,
    on_runs: Callable[[int], None] = lambda num_runs: None,
) -> Calibration:
    """Runs every anchor under every choice with every seed; `on_runs(n)` when n more are done.

    `anchors` maps names of candidates to full AUCs. An anchor that fails under a choice is last
    there. Raises `ClusterError` if the cluster has too few CPUs.
    """
    by_name = {c.name: c for c in candidates}
    choices = recipe_choices(rows.recipe)
    resolved = workers.resolve(len(anchors))
    shared = ray.put((rows, config.seeds, "cuda" if resolved.use_gpu else "cpu"))
    scores = np.empty((len(anchors), len(choices)))
    for column, recipe in enumerate(choices):
        items = [(by_name[name], recipe) for name in anchors]
        outcomes = run_tasks(_mean_auc, shared, items, resolved)
        scores[:, column] = [FAILED if isinstance(auc, str) else auc for auc in outcomes]
        on_runs(len(items) * len(config.seeds))
    return calibration(tuple(anchors), choices, np.array(list(anchors.values())), scores)


def _mean_auc(
    shared: tuple[DistilledRows, Sequence[int], str], item: tuple[Candidate, Recipe]
) -> float | str:
    """Over all seeds, side by side."""
    (rows, seeds, device), (candidate, recipe) = shared, item
    judged = replace(rows, recipe=recipe, evaluation=rows.evaluation.ranking_alone())
    runs = RunSet((candidate,), seeds, judged, device)
    runs.advance(1.0)
    found = runs.results()[0]
    return found if isinstance(found, str) else float(np.mean([r.evaluation.auc for r in found]))


@dataclass(frozen=True, kw_only=True)
class _File:
    anchors: dict[str, float | tuple[float, ...]]
    """Candidate -> AUC of its full run, or one a seed."""


def load_anchors(path: Path, candidates: Sequence[Candidate]) -> dict[str, float]:
    """Candidate name -> full AUC, seeds averaged: from `anchors:` in YAML or a consistency.json.

    Raises `ConfigError` if the file can't be read, names a candidate that isn't searched, holds an
    AUC outside (0, 1), fewer than three anchors, or no two that differ.
    """
    content = load_yaml(path)  # JSON is YAML
    if "candidates" in content:
        content = {"anchors": _full_arm(content["candidates"], path)}
    names = [c.name for c in candidates]
    anchors: dict[str, float] = {}
    for name, value in from_mapping(_File, content, str(path)).anchors.items():
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.0)
            raise ConfigError(
                f"{path}: `{name}` is none of the candidates; the nearest is `{near[0]}`"
            )
        aucs = value if isinstance(value, tuple) else (value,)
        if not aucs or not all(0.0 < auc < 1.0 for auc in aucs):
            raise ConfigError(f"{path}: `{name}`: expected an AUC between 0 and 1, found {value!r}")
        anchors[name] = sum(aucs) / len(aucs)
    if len(anchors) < MIN_ANCHORS:
        raise ConfigError(f"{path}: {len(anchors)} anchors; give at least {MIN_ANCHORS}")
    if len(set(anchors.values())) < 2:
        raise ConfigError(f"{path}: all anchors have the same AUC, so there is no order to match")
    return anchors


def _full_arm(reports: Any, path: Path) -> dict[str, Any]:
    """The full AUCs of a comparison's candidates, those left aside that weren't counted."""
    try:
        return {r["name"]: r["full"]["auc"] for r in reports if r["counted"]}
    except (KeyError, TypeError):
        raise ConfigError(f"{path}: neither `anchors:` nor a consistency.json") from None
