"""Distilled runs that go side by side: seeds of a candidate, and candidates of one shape.

A distilled run's mini-batches are so small that calling operations takes longer than doing them;
runs that take the same mini-batches through the same layers share the calls.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor

from diet_ray.data.batch import FeatureSpec
from diet_ray.errors import describe
from diet_ray.models.catalogue import Candidate, build, fields_of, recommender_class
from diet_ray.models.stack import ModelStack, NotStackable
from diet_ray.search.evaluation import Evaluation, EvaluationRows, evaluation_of
from diet_ray.search.runs import PROGRESS, RunResult, TrainingRows
from diet_ray.search.size import size_if_built
from diet_ray.training.loop import STEPS_PER_POINT, drift_match
from diet_ray.training.recipe import Recipe
from diet_ray.training.stacked import StackedTraining

Item = TypeVar("Item")

MAX_STACK = 16
"""Runs in a stack; from here on, arithmetic takes longer than calling it."""
MAX_STACK_BYTES = 1 << 30
"""Of the tables of a stack, with their second moments."""
_BYTES_PER_NUMBER = 2 * 4


@dataclass(frozen=True)
class Member:
    """One run."""

    candidate: Candidate
    seed: int


def shape(candidate: Candidate) -> tuple[Any, ...]:
    """Equal for candidates whose runs can go side by side: they differ in rates and in sizes of
    single fields at most."""
    arguments = candidate.arguments | {"dropout": candidate.dropout > 0}
    return (
        candidate.architecture,
        candidate.batch_size,
        candidate.without_fields,
        # One call updates the tables of all.
        *(candidate.beta1, candidate.beta2, candidate.epsilon),
        *sorted((name, repr(value)) for name, value in arguments.items()),
    )


def stack_size(candidate: Candidate, features: FeatureSpec, recipe: Recipe) -> int:
    """How many runs of a candidate's shape go side by side at best."""
    if recipe.order != "time":
        # Shuffled rows come in another order for every seed.
        return 1
    size = size_if_built(candidate, features)
    if size is None:
        return 1
    table_bytes = _BYTES_PER_NUMBER * size.table_cells
    if not recommender_class(candidate).reads_table:
        # Embeddings of its own have gradients and a first moment, too.
        table_bytes += 2 * _BYTES_PER_NUMBER * size.dense
    return max(1, min(MAX_STACK, MAX_STACK_BYTES // max(1, table_bytes)))


def like_parts(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Consecutive parts of up to `size` items, whose sizes differ by one at most."""
    num_parts = -(-len(items) // size)
    cuts = [len(items) * i // num_parts for i in range(num_parts + 1)]
    return [items[a:b] for a, b in pairwise(cuts)]


class StackedRun:
    """Distilled runs side by side, which can stop on their way to be judged, and go on.

    Each takes the steps that `DistilledRun` would, up to rounding. Raises `NotStackable` if they
    are of different shapes, or if the first step isn't the one that a model takes alone.
    """

    def __init__(
        self,
        members: Sequence[Member],
        train: TrainingRows,
        features: FeatureSpec,
        recipe: Recipe,
        device: str = "cpu",
    ) -> None:
        begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
        if recipe.order != "time":
            raise NotStackable(f"rows come in order `{recipe.order}`, another one for each seed")
        self.members = tuple(members)
        candidate = members[0].candidate
        self._selection = fields_of(candidate, features)
        models = [build(m.candidate, features, m.seed).to(device) for m in members]
        self._stack = ModelStack(models)
        self._recipe = recipe
        self._training = StackedTraining(
            self._stack,
            [recipe.optimizer_of(m.candidate.optimizer, m.candidate.batch_size) for m in members],
        )
        self._rates = [m.candidate.first_rates for m in members]
        drifts = [drift_match(recipe) for _ in members]
        self._drifts = None if drifts[0] is None else [d for d in drifts if d is not None]
        rows = train.select(self._selection).to(device)
        dtype = self._stack.table_weight.dtype
        self._rows = rows.batch
        self._table_rows = self._stack.table.rows(rows.batch)
        self._target, self._weight = rows.target.to(dtype), rows.weight.to(dtype)
        self._batch_size = recipe.batch_size_of(candidate.batch_size)
        self._steps_per_epoch = -(-len(train) // self._batch_size)
        self.num_steps_planned = recipe.epochs * self._steps_per_epoch
        self.num_steps = self.num_rows = 0
        self._losses: list[Tensor] = []
        self.curve: list[tuple[int, Tensor]] = []
        self.evaluation_seconds = 0.0
        self.train_seconds = time.perf_counter() - begin_s
        self.cpu_seconds = time.process_time() - begin_cpu_s

    def advance(self, num_steps: int) -> None:
        """Takes up to `num_steps` more steps; fewer if the runs end before."""
        begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
        for _ in range(min(num_steps, self.num_steps_planned - self.num_steps)):
            self._step()
        self.train_seconds += time.perf_counter() - begin_s
        self.cpu_seconds += time.process_time() - begin_cpu_s

    def state(self) -> dict[str, Any]:
        """As `DistilledRun.state`, of all members."""
        return {
            "stack": self._stack.state_dict(),
            "training": self._training.state_dict(),
            "drifts": None if self._drifts is None else [d.state() for d in self._drifts],
            "losses": self._losses,
        } | {name: getattr(self, name) for name in PROGRESS}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """As `DistilledRun.load_state`, of as many members with the same seeds."""
        self._stack.load_state_dict(state["stack"])
        self._training.load_state_dict(state["training"])
        for drift, own in zip(self._drifts or (), state["drifts"] or (), strict=True):
            drift.load_state(own)
        self._losses = list(state["losses"])
        for name in PROGRESS:
            setattr(self, name, state[name])

    def _follow(self) -> None:
        """Sets the rates that the candidates have here."""
        candidates = [m.candidate for m in self.members]
        if not any(c.schedule for c in candidates):
            return
        rates = [c.rates_at(self.num_steps, self.num_steps_planned) for c in candidates]
        if rates != self._rates:
            self._rates = rates
            self._training.set_optimizers(
                [
                    self._recipe.optimizer_of(r.applied_to(c.optimizer), c.batch_size)
                    for r, c in zip(rates, candidates, strict=True)
                ]
            )
            self._stack.set_dropout([r.dropout for r in rates])

    def _step(self) -> None:
        self._follow()
        begin = self.num_steps % self._steps_per_epoch * self._batch_size
        part = slice(begin, begin + self._batch_size)
        target, weight, batch = self._target[part], self._weight[part], self._rows[part]
        losses = self._training.step(self._table_rows[part], batch, target, weight, self._drifts)
        self._losses.append(losses)
        self.num_steps += 1
        self.num_rows += len(target)
        if len(self._losses) == STEPS_PER_POINT:
            self._close_point()

    def _close_point(self) -> None:
        self.curve.append((self.num_rows, torch.stack(self._losses).mean(dim=0)))
        self._losses = []

    @property
    def done(self) -> bool:
        return self.num_steps >= self.num_steps_planned

    def results(self, rows: EvaluationRows) -> tuple[RunResult | str, ...]:
        """Judges every model as it stands, in the order of the members; a run that has diverged is
        a line of text. Seconds are each run's share."""
        begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
        selected = rows.select(self._selection)
        logits = self._stack.predict(selected.batch).cpu()
        if self._losses:
            self._close_point()
        curves = [
            tuple((num_rows, float(losses[i])) for num_rows, losses in self.curve)
            for i in range(len(self.members))
        ]
        evaluations = [_judged(own, selected) for own in logits]
        self.evaluation_seconds += time.perf_counter() - begin_s
        self.cpu_seconds += time.process_time() - begin_cpu_s
        share = 1.0 / len(self.members)
        return tuple(
            evaluation
            if isinstance(evaluation, str)
            else RunResult(
                name=member.candidate.name,
                seed=member.seed,
                evaluation=evaluation,
                train_seconds=self.train_seconds * share,
                evaluation_seconds=self.evaluation_seconds * share,
                row_visits=float(self.num_rows),
                num_steps=self.num_steps,
                curve=curve,
                cpu_seconds=self.cpu_seconds * share,
            )
            for member, evaluation, curve in zip(self.members, evaluations, curves, strict=True)
        )


def _judged(logit: Tensor, rows: EvaluationRows) -> Evaluation | str:
    try:
        return evaluation_of(logit, rows)
    except ArithmeticError as e:
        return describe(e)
