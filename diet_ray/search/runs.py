"""One run of either arm: a candidate trained, then judged on the evaluation rows. No Ray here."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.data.log import PreparedLog
from diet_ray.data.selection import FieldSelection
from diet_ray.models.base import Recommender
from diet_ray.models.catalogue import Candidate, build, fields_of
from diet_ray.search.evaluation import Evaluation, EvaluationRows, evaluate
from diet_ray.search.sampling import subsample
from diet_ray.training.loop import (
    STEPS_PER_POINT,
    FitResult,
    click_loss,
    distilled_batches,
    drift_match,
    fit,
    train_step,
)
from diet_ray.training.metrics import log_loss
from diet_ray.training.optimizer import ClickOptimizer
from diet_ray.training.rates import RateFollower
from diet_ray.training.recipe import Recipe

if TYPE_CHECKING:
    # Workers that train its rows do without it.
    from diet_ray.memory.dataset import DistilledDataset

FORWARD_SHARE = 1.0 / 3.0
"""A forward pass over a row against a training visit: no backward pass, no update."""


PROGRESS = (
    "num_steps",
    "num_rows",
    "train_seconds",
    "evaluation_seconds",
    "cpu_seconds",
    "curve",
)
"""What a run that can stop on its way has counted so far, by attribute."""
_THINNING_SEED = 0x7415


@dataclass(frozen=True)
class TrainingRows:
    """Rows in time order with the target (M,) and weight (M,) to train on instead of the label."""

    batch: Batch
    target: Tensor
    weight: Tensor

    @classmethod
    def of(cls, dataset: DistilledDataset) -> TrainingRows:
        """The slots of a distilled dataset."""
        return cls(dataset.batch(), dataset.targets(), dataset.weights.float())

    def __len__(self) -> int:
        return len(self.batch)

    def select(self, selection: FieldSelection) -> TrainingRows:
        return TrainingRows(selection(self.batch), self.target, self.weight)

    def to(self, device: str) -> TrainingRows:
        return TrainingRows(self.batch.to(device), self.target.to(device), self.weight.to(device))


@dataclass(frozen=True, kw_only=True)
class FullRunConfig:
    """How a candidate is trained on the whole log: in time order, at its own batch size."""

    epochs: int = 1
    batch_size: int | None = None
    """Replaces every candidate's own batch size."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or (self.batch_size is not None and self.batch_size < 1):
            raise ValueError("epochs and batch_size must be at least 1")

    def batch_size_of(self, candidate: Candidate) -> int:
        return self.batch_size or candidate.batch_size


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What one run of one candidate with one seed gave and cost."""

    allows_nan: ClassVar[bool] = True
    """Of losses, when a training has diverged."""
    name: str
    seed: int
    evaluation: Evaluation
    train_seconds: float
    """Of this process, reading the rows included."""
    evaluation_seconds: float
    row_visits: float
    """Rows trained on, every epoch counted; forward passes of a method itself count a third."""
    num_steps: int
    curve: tuple[tuple[int, float], ...]
    """(rows trained on, mean training loss since the point before)"""
    cpu_seconds: float | None = None
    """Of the process, training and evaluation; what other work on the machine hardly changes."""

    def __post_init__(self) -> None:
        spent = (self.train_seconds, self.evaluation_seconds, self.row_visits, self.num_steps)
        if not all(0 <= value < math.inf for value in spent):
            raise ValueError("seconds, row_visits and num_steps must be finite and at least 0")

    @property
    def seconds(self) -> float:
        return self.train_seconds + self.evaluation_seconds


def full_run(
    candidate: Candidate,
    log: PreparedLog,
    seed: int,
    rows: EvaluationRows,
    config: FullRunConfig,
    device: str = "cpu",
) -> RunResult:
    """Trains on all training rows of the log, streamed in time order, and evaluates."""
    stream = (
        batch
        for _ in range(config.epochs)
        for batch in log.batches(log.train_stages, device=device)
    )
    num_rows = config.epochs * log.num_train_rows
    return streamed_run(candidate, log.features, stream, num_rows, seed, rows, config, device)


def streamed_run(
    candidate: Candidate,
    features: FeatureSpec,
    stream: Iterable[Batch],
    num_rows: int,
    seed: int,
    rows: EvaluationRows,
    config: FullRunConfig,
    device: str = "cpu",
) -> RunResult:
    """Trains on the rows of a stream as full training would, in order, and evaluates.

    num_rows: how many they are, about, by which a candidate's rates change.
    """
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    model = build(candidate, features, seed).to(device)
    selection = fields_of(candidate, features)
    selected = (selection(batch) for batch in stream)
    optimizer = ClickOptimizer(model, candidate.optimizer)
    follow = RateFollower(candidate, optimizer)
    follow(0, num_rows)
    num_done = 0

    def on_step(batch: Batch, _: Tensor) -> None:
        nonlocal num_done
        num_done += len(batch)
        follow(num_done, num_rows)

    fitted = fit(model, selected, optimizer, config.batch_size_of(candidate), on_step)
    return _judged(candidate, seed, model, fitted, rows.select(selection), begin_s, begin_cpu_s)


class DistilledRun:
    """A run on a distilled dataset that can stop on its way to be judged, and go on.

    However it is cut into parts, the steps are the same.
    """

    def __init__(
        self,
        candidate: Candidate,
        train: TrainingRows,
        features: FeatureSpec,
        recipe: Recipe,
        seed: int,
        device: str = "cpu",
    ) -> None:
        begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
        self.candidate = candidate
        self.seed = seed
        self._selection = fields_of(candidate, features)
        self.model = build(candidate, features, seed).to(device)
        self._optimizer = ClickOptimizer(
            self.model, recipe.optimizer_of(candidate.optimizer, candidate.batch_size)
        )
        self._follow = RateFollower(
            candidate,
            self._optimizer,
            lambda config: recipe.optimizer_of(config, candidate.batch_size),
        )
        self._drift = drift_match(recipe)
        batch_size = recipe.batch_size_of(candidate.batch_size)
        self._batches = self._minibatches(
            train.select(self._selection).to(device), recipe, batch_size
        )
        self.num_steps_planned = recipe.epochs * -(-len(train) // batch_size)
        self.num_steps = self.num_rows = 0
        self.train_seconds = time.perf_counter() - begin_s
        self.cpu_seconds = time.process_time() - begin_cpu_s
        self.evaluation_seconds = 0.0
        self._losses: list[Tensor] = []
        self.curve: list[tuple[int, float]] = []

    def _minibatches(
        self, train: TrainingRows, recipe: Recipe, batch_size: int
    ) -> Iterator[tuple[Batch, Tensor, Tensor]]:
        return distilled_batches(
            train.batch, train.target, train.weight, recipe, batch_size, self.seed
        )

    def advance(self, num_steps: int) -> None:
        """Takes up to `num_steps` more steps; fewer if the run ends before."""
        begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
        self.model.train()
        for _ in range(min(num_steps, self.num_steps_planned - self.num_steps)):
            self._follow(self.num_steps, self.num_steps_planned)
            batch, target, weight = next(self._batches)
            logit = train_step(self.model, self._optimizer, batch, target, weight, self._drift)
            self._losses.append(click_loss(logit, target, weight))
            self.num_steps += 1
            self.num_rows += len(batch)
            if len(self._losses) == STEPS_PER_POINT:
                self._close_point()
        self.train_seconds += time.perf_counter() - begin_s
        self.cpu_seconds += time.process_time() - begin_cpu_s

    def state(self) -> dict[str, Any]:
        """All that going on from here needs: tensors and plain values, for `load_state`."""
        return {
            "model": dict(self.model.state_dict()),
            "optimizer": self._optimizer.state_dict(),
            "drift": None if self._drift is None else self._drift.state(),
            "losses": self._losses,
        } | {name: getattr(self, name) for name in PROGRESS}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes to where another run of the same candidate but for its rates, rows and seed stood.

        This one must not have begun.
        """
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._drift is not None:
            self._drift.load_state(state["drift"])
        self._losses = list(state["losses"])
        for name in PROGRESS:
            setattr(self, name, state[name])
        self._batches = itertools.islice(self._batches, self.num_steps, None)

    @property
    def done(self) -> bool:
        return self.num_steps >= self.num_steps_planned

    def result(self, rows: EvaluationRows) -> RunResult:
        """Judges the model as it stands."""
        begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
        evaluation = evaluate(self.model, rows.select(self._selection))
        self.evaluation_seconds += time.perf_counter() - begin_s
        self.cpu_seconds += time.process_time() - begin_cpu_s
        if self._losses:
            self._close_point()
        return RunResult(
            name=self.candidate.name,
            seed=self.seed,
            evaluation=evaluation,
            train_seconds=self.train_seconds,
            evaluation_seconds=self.evaluation_seconds,
            row_visits=float(self.num_rows),
            num_steps=self.num_steps,
            curve=tuple(self.curve),
            cpu_seconds=self.cpu_seconds,
        )

    def _close_point(self) -> None:
        self.curve.append((self.num_rows, float(torch.stack(self._losses).mean())))
        self._losses = []


def distilled_run(
    candidate: Candidate,
    train: TrainingRows,
    features: FeatureSpec,
    recipe: Recipe,
    rows: EvaluationRows,
    seed: int,
    device: str = "cpu",
) -> RunResult:
    """Trains on a distilled dataset (or any few rows) as the recipe says, and evaluates."""
    run = DistilledRun(candidate, train, features, recipe, seed, device)
    run.advance(run.num_steps_planned)
    return run.result(rows)


def thinned_run(
    candidate: Candidate,
    log: PreparedLog,
    seed: int,
    rows: EvaluationRows,
    config: FullRunConfig,
    *,
    fraction: float,
    device: str = "cpu",
) -> RunResult:
    """A full run over an evenly thinned stream: one pass over `fraction` of its rows, in order."""
    stream = subsample(log, low=0.0, high=fraction, seed=_THINNING_SEED, device=device)
    num_rows = round(fraction * log.num_train_rows)
    return streamed_run(candidate, log.features, stream, num_rows, seed, rows, config, device)


def progressive_run(
    candidate: Candidate,
    first: Batch,
    features: FeatureSpec,
    seed: int,
    config: FullRunConfig,
    *,
    num_slices: int,
    device: str = "cpu",
) -> tuple[NDArray[np.float64], float]:
    """The beginning of a full run, judged on the way: each row predicted before trained on.

    Returns the log loss on each of `num_slices` consecutive slices (num_slices,), and seconds.
    """
    begin_s = time.perf_counter()
    model = build(candidate, features, seed).to(device)
    honest: list[Tensor] = []
    fit(
        model,
        [fields_of(candidate, features)(first)],
        candidate.optimizer,
        config.batch_size_of(candidate),
        on_step=lambda _, logit: honest.append(logit),
    )
    logit = torch.cat(honest).cpu()
    edges = np.linspace(0, len(first), num_slices + 1).astype(int)
    losses = [log_loss(first.label[a:b], logit[a:b]) for a, b in pairwise(edges)]
    return np.array(losses), time.perf_counter() - begin_s


def _judged(
    candidate: Candidate,
    seed: int,
    model: Recommender,
    fitted: FitResult,
    rows: EvaluationRows,
    begin_s: float,
    begin_cpu_s: float,
) -> RunResult:
    trained_s = time.perf_counter()
    evaluation = evaluate(model, rows)
    return RunResult(
        name=candidate.name,
        seed=seed,
        evaluation=evaluation,
        train_seconds=trained_s - begin_s,
        evaluation_seconds=time.perf_counter() - trained_s,
        row_visits=float(fitted.num_rows),
        num_steps=fitted.num_steps,
        curve=fitted.loss_curve,
        cpu_seconds=time.process_time() - begin_cpu_s,
    )
