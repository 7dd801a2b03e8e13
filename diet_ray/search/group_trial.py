"""Groups of candidates as Ray Tune trials.

The distilled rows and the evaluation rows lie in the object store once, trials reuse actors, and a
candidate's outcome reaches the driver as soon as it is there.
"""

from __future__ import annotations

import itertools
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import ray
import torch
from ray import tune

from diet_ray.errors import ConfigError, describe
from diet_ray.models.catalogue import Candidate
from diet_ray.search.groups import Group
from diet_ray.search.proposals import Proposals, optuna_search
from diet_ray.search.run_set import DistilledRows, RunSet
from diet_ray.search.runs import RunResult
from diet_ray.search.workers import WorkersConfig

STORAGE_PREFIX = "diet-search-"
"""Of folders that last as long as a search."""
_MIN_PENDING_TRIALS = 200
"""Tune's own default, on nodes of up to 180 CPUs."""
_TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # An interrupt ends the search at once: what is finished is recorded.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Paths and modules of candidates may be relative to where the driver runs.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


@dataclass(frozen=True, kw_only=True)
class Work:
    """What every trial needs."""

    groups: Sequence[Group]
    candidates: Sequence[Candidate]
    proposals: Proposals | None = None
    """Where a trial's candidate comes from, if not from `groups`."""
    rows: DistilledRows
    seeds: Sequence[int]
    num_reports: int
    device: str
    num_threads: int

    def sets(self, config: Mapping[str, Any]) -> list[tuple[Candidate, ...]]:
        """What the trial of a configuration trains. Raises `ConfigError` for a wrong proposal."""
        if self.proposals is not None:
            return [(self.proposals.candidate(config["values"]),)]
        return [tuple(self.candidates[i] for i in own) for own in self.groups[config["group"]]]


@dataclass(frozen=True)
class Outcome:
    """What a trial has of a candidate."""

    candidate: Candidate
    num_reports: int
    result: tuple[RunResult, ...] | str
    """Its runs, one a seed, or an error."""

    @property
    def auc(self) -> float:
        """Mean over seeds; 0, below any model's, if it failed."""
        if isinstance(self.result, str):
            return 0.0
        return sum(r.evaluation.auc for r in self.result) / len(self.result)


class GroupTrial(tune.Trainable):
    """Trains the sets of a group, one after the other; a step takes a set to its next report."""

    by_turns: ClassVar[bool] = False
    """Whether trials wait for one another at each report, and so have to be saved."""

    def setup(self, config: dict[str, Any], *, work: Work) -> None:
        torch.set_num_threads(work.num_threads)
        self._work = work
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._sets = self._work.sets(config)
        self._runs: RunSet | None = None
        self._num_reports = 0

    def step(self) -> dict[str, Any]:
        work, own = self._work, self._sets[0]
        if self._runs is None:
            self._runs = RunSet(own, work.seeds, work.rows, work.device)
        self._num_reports += 1
        self._runs.advance(self._num_reports / work.num_reports)
        results = self._runs.results()
        outcomes = [Outcome(c, self._num_reports, r) for c, r in zip(own, results, strict=True)]
        failed = all(isinstance(r, str) for r in results)
        is_last = failed or self._num_reports == work.num_reports
        if is_last:
            self._sets, self._runs, self._num_reports = self._sets[1:], None, 0
        return {
            "done": not self._sets,
            "auc": max(o.auc for o in outcomes),
            "outcomes": outcomes,
            "is_last": is_last,
        }


class _Listener(tune.Callback):
    """Hands each candidate's last outcome on."""

    def __init__(self, work: Work, on_outcome: Callable[[Outcome], None]) -> None:
        self._work, self._on_outcome = work, on_outcome
        self._latest: dict[str, list[Outcome]] = {}
        self._finished: set[str] = set()
        self.lost: dict[str, str] = {}
        """Candidates whose process died before they were finished, and why."""

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its callbacks beside a search; what watches it can't be, nor needs to."""
        return self.__dict__ | {"_on_outcome": None, "_work": None}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._latest[trial.trial_id] = result["outcomes"]
        if result["is_last"]:
            self._finish(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # There is something left if a scheduler has stopped it before its end.
        self._finish(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        cause = trial.get_pickled_error() or trial.get_error() or "its process died"
        text = describe(cause) if isinstance(cause, BaseException) else str(cause)
        for name in self._names(trial):
            if name not in self._finished:
                self.lost[name] = text.strip().splitlines()[-1][:500]

    def _names(self, trial: Any) -> list[str]:
        proposals = self._work.proposals
        try:
            return [c.name for c in itertools.chain(*self._work.sets(trial.config))]
        except ConfigError:
            # A proposal whose values don't go together is no candidate.
            assert proposals is not None
            return [f"{proposals.architecture(trial.config['values'])}-{trial.trial_id}"]

    def _finish(self, trial_id: str) -> None:
        for outcome in self._latest.pop(trial_id, []):
            self._finished.add(outcome.candidate.name)
            self._on_outcome(outcome)


def run_groups(
    work: Work,
    workers: WorkersConfig,
    scheduler: Any,
    on_outcome: Callable[[Outcome], None],
    known: Sequence[tuple[dict[str, Any], float]] = (),
    trial: type[GroupTrial] = GroupTrial,
    storage: Path | None = None,
) -> dict[str, str]:
    """Trains all groups, or as many candidates as are to be proposed.

    A `trial` that goes on by turns needs `storage` that all nodes see where the cluster has
    several; what is written there is removed at the end.

    Returns the names of candidates that died with their process, and why. `on_outcome` is called in
    this thread, once a candidate, when it is finished or stopped. `known` are earlier proposals,
    which count among them.
    """
    listener = _Listener(work, on_outcome)
    if work.proposals is None:
        space: dict[str, Any] = {"group": tune.grid_search(list(range(len(work.groups))))}
        search_alg, num_samples = None, 1
    else:
        space = {"values": work.proposals.tune_space()}
        search_alg = optuna_search(work.proposals, known)
        num_samples = work.proposals.num_samples - len(known)
    num_cpus, max_trials = workers.cpus_per_worker, workers.num_workers
    if trial.by_turns:
        # All take part at once.
        num_cpus, max_trials = _cpus_by_turns(workers), None
        # Tune creates no more trials than this ahead, and those that aren't there can't be waited
        # for.
        num_pending = max(_MIN_PENDING_TRIALS, len(work.groups))
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(num_pending)
    trainable = tune.with_resources(
        tune.with_parameters(trial, work=work),
        {"cpu": num_cpus} | ({"gpu": 1} if workers.use_gpu else {}),
    )
    # After an error Tune may go on copying its state there for a moment.
    own = tempfile.TemporaryDirectory(
        prefix=STORAGE_PREFIX, dir=storage, ignore_cleanup_errors=True
    )
    with _silence(), own as folder:
        tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(
                metric="auc",
                mode="max",
                scheduler=scheduler,
                search_alg=search_alg,
                num_samples=num_samples,
                max_concurrent_trials=max_trials,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=folder,
                verbose=0,
                callbacks=[listener],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False, num_to_keep=3),
            ),
        ).fit()
    return listener.lost


def _cpus_by_turns(workers: WorkersConfig) -> int:
    """CPUs to ask for so that no more trials than workers run at once; on one node, as a trial."""
    num_cpus = [int(n["Resources"].get("CPU", 0)) for n in ray.nodes() if n["Alive"]]
    num_workers = workers.num_workers or 1
    # Enough that one trial more wouldn't fit, as far as whole CPUs can say it.
    share = min(sum(num_cpus) // (num_workers + 1) + 1, sum(num_cpus) // num_workers)
    return max(workers.cpus_per_worker, min(share, max(num_cpus)))


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps Tune from writing result files, tables and log lines of its own."""
    os.environ.update(_TUNE_ENVIRONMENT)
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.train", "ray.air")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
