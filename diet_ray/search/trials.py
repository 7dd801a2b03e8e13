"""Distilled search on Ray Tune: a trial is one candidate with all its seeds.

The distilled rows and the evaluation rows lie in the object store once; trials reuse actors. A
candidate that raises is reported against its name; the others go on.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler

from diet_ray.config import to_mapping
from diet_ray.data.batch import FeatureSpec
from diet_ray.errors import OutputError
from diet_ray.models.catalogue import Candidate
from diet_ray.search import results
from diet_ray.search.evaluation import EvaluationRows
from diet_ray.search.resolution import Resolution, resolution
from diet_ray.search.runs import DistilledRun, RunResult, TrainingRows
from diet_ray.search.workers import WorkersConfig, describe
from diet_ray.storage import Folder
from diet_ray.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How candidates are tried on a distilled dataset."""

    seeds: tuple[int, ...] = (0, 1)
    scheduler: Literal["all", "asha"] = "all"
    """`all` trains every candidate to the end; `asha` stops the weaker half at each report."""
    num_reports: int = 4
    """With `asha`: how often a trial is judged along its run, the end included."""

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError("seeds must be distinct whole numbers from 0, at least one")
        if self.num_reports < 1:
            raise ValueError("num_reports must be at least 1")


@dataclass(frozen=True, kw_only=True)
class DistilledRows:
    """What distilled runs train on and are judged on."""

    train: TrainingRows
    features: FeatureSpec
    recipe: Recipe
    evaluation: EvaluationRows


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    candidate: Candidate
    runs: tuple[RunResult, ...]
    """One a seed, in the order of the seeds; empty if the candidate failed."""
    num_reports: int
    """How often it was judged; below the configured number if a scheduler stopped it early."""
    error: str | None = None

    @property
    def mean_auc(self) -> float | None:
        """Mean over seeds of the AUC on the ranking slice."""
        return sum(r.evaluation.auc for r in self.runs) / len(self.runs) if self.runs else None


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    trials: tuple[TrialResult, ...]
    """In the order of the candidates."""
    wall_seconds: float
    search_overhead_s: float
    """Wall-clock beyond what training and evaluation alone take on as many workers."""
    num_workers: int

    @property
    def ranking(self) -> tuple[TrialResult, ...]:
        """Best first: those that went furthest, by mean AUC; failed candidates are left out."""
        finished = [t for t in self.trials if t.runs]
        return tuple(sorted(finished, key=lambda t: (-t.num_reports, -(t.mean_auc or 0.0))))

    @property
    def resolution(self) -> Resolution | None:
        """What the ranking's scores resolve, in its order; None with a single seed."""
        ranking = self.ranking
        if not ranking:
            return None
        scores = np.array([[r.evaluation.auc for r in t.runs] for t in ranking])
        return resolution(scores, np.array([t.num_reports for t in ranking]))


def write_ranking(
    result: SearchResult, folder: str | Path, calibration: Mapping[str, Any] | None = None
) -> None:
    """Writes `ranking.json`: the candidates, best first, and what of their order is noise.

    Without an estimate of noise (a single seed) its figures are null; `calibration`, plain values,
    says how the recipe was chosen, null if it wasn't. Raises `OutputError`.
    """
    found = result.resolution
    keys = ("seed_sd", "threshold", "num_pairs", "num_unresolved_pairs")
    content = {key: getattr(found, key, None) for key in keys} | {
        "ranking": [
            {
                "candidate": to_mapping(trial.candidate),
                "mean_auc": trial.mean_auc,
                "places": None if found is None else found.places[i],
                "num_reports": trial.num_reports,
            }
            for i, trial in enumerate(result.ranking)
        ],
        "failed": {t.candidate.name: t.error for t in result.trials if not t.runs},
        "calibration": calibration,
    }
    text = json.dumps(content, indent=1, allow_nan=False)
    Folder.at(folder).write("ranking.json", text.encode())


_TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # An interrupt ends the search at once: what is finished is recorded.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Paths and modules of candidates may be relative to where the driver runs.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


class CandidateTrial(tune.Trainable):
    """One candidate, all seeds; a step of the trial takes every seed's run to the next report."""

    def setup(
        self,
        config: dict[str, Any],
        *,
        candidates: Sequence[Candidate],
        rows: DistilledRows,
        search: SearchConfig,
        device: str,
    ) -> None:
        torch.set_num_threads(max(1, int(self.trial_resources.required_resources.get("CPU", 1))))
        self._candidates, self._rows, self._search = candidates, rows, search
        self._device = device
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._candidate = self._candidates[config["candidate"]]
        self._runs: list[DistilledRun] = []
        self._num_reports = 0

    def step(self) -> dict[str, Any]:
        try:
            return self._step()
        except Exception as e:
            return {"done": True, "auc": 0.0, "runs": (), "error": describe(e)}

    def _step(self) -> dict[str, Any]:
        rows, search = self._rows, self._search
        if not self._runs:
            self._runs = [
                DistilledRun(
                    self._candidate, rows.train, rows.features, rows.recipe, seed, self._device
                )
                for seed in search.seeds
            ]
        self._num_reports += 1
        num_reports = 1 if search.scheduler == "all" else search.num_reports
        runs = []
        for run in self._runs:
            target = run.num_steps_planned * self._num_reports // num_reports
            run.advance(target - run.num_steps)
            runs.append(run.result(rows.evaluation))
        return {
            "done": self._num_reports == num_reports,
            "auc": sum(r.evaluation.auc for r in runs) / len(runs),
            "runs": tuple(runs),
            "error": None,
        }


class _Recorder(tune.Callback):
    """Keeps each trial's outcome as it comes: a line of JSON, and a call to whoever watches."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        file: Path | None,
        on_trial: Callable[[TrialResult], None] | None,
    ) -> None:
        self._candidates, self._file, self._on_trial = candidates, file, on_trial
        self.trials: dict[int, TrialResult] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its callbacks beside a search; a watcher (a progress bar) can't be, nor
        needs to."""
        return self.__dict__ | {"_on_trial": None}

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        last = trial.last_result
        self._record(
            trial, tuple(last.get("runs") or ()), int(last["training_iteration"]), last.get("error")
        )

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        cause = trial.get_pickled_error() or trial.get_error() or "its process died"
        text = describe(cause) if isinstance(cause, BaseException) else str(cause)
        self._record(trial, (), 0, text.strip().splitlines()[-1][:500])

    def _record(
        self, trial: Any, runs: tuple[RunResult, ...], num_reports: int, error: str | None
    ) -> None:
        index = trial.config["candidate"]
        result = TrialResult(
            candidate=self._candidates[index], runs=runs, num_reports=num_reports, error=error
        )
        self.trials[index] = result
        if self._file is not None:
            line = {
                "candidate": to_mapping(result.candidate),
                "num_reports": num_reports,
                "error": error,
                "runs": [results.to_json(r) for r in runs],
            }
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
        if self._on_trial is not None:
            self._on_trial(result)


def search(
    candidates: Sequence[Candidate],
    rows: DistilledRows,
    config: SearchConfig | None = None,
    workers: WorkersConfig | None = None,
    out: str | Path | None = None,
    on_trial: Callable[[TrialResult], None] | None = None,
) -> SearchResult:
    """Trains every candidate on the distilled rows; one JSON line a trial in `<out>/trials.jsonl`.

    Raises `ClusterError` if the cluster has too few CPUs, `OutputError` if `out` can't be written.
    """
    config = config or SearchConfig()
    begin_s = time.perf_counter()
    resolved = (workers or WorkersConfig()).resolve(len(candidates))
    recorder = _Recorder(candidates, _trials_file(out), on_trial)
    trainable = tune.with_resources(
        tune.with_parameters(
            CandidateTrial,
            candidates=tuple(candidates),
            rows=rows,
            search=config,
            device="cuda" if resolved.use_gpu else "cpu",
        ),
        {"cpu": resolved.cpus_per_worker} | ({"gpu": 1} if resolved.use_gpu else {}),
    )
    with _silence(), tempfile.TemporaryDirectory(prefix="diet-search-") as storage:
        tuner = tune.Tuner(
            trainable,
            param_space={"candidate": tune.grid_search(list(range(len(candidates))))},
            tune_config=tune.TuneConfig(
                metric="auc",
                mode="max",
                scheduler=_scheduler(config),
                max_concurrent_trials=resolved.num_workers,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=storage,
                verbose=0,
                callbacks=[recorder],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        tuner.fit()
    wall_seconds = time.perf_counter() - begin_s
    num_workers = resolved.num_workers or 1
    trials = tuple(
        recorder.trials.get(i)
        or TrialResult(candidate=c, runs=(), num_reports=0, error="its trial never ran")
        for i, c in enumerate(candidates)
    )
    busy_s = sum(r.seconds for t in trials for r in t.runs) / num_workers
    return SearchResult(
        trials=trials,
        wall_seconds=wall_seconds,
        search_overhead_s=max(0.0, wall_seconds - busy_s),
        num_workers=num_workers,
    )


def _scheduler(config: SearchConfig) -> Any:
    if config.scheduler == "all":
        return FIFOScheduler()
    return AsyncHyperBandScheduler(
        time_attr="training_iteration",
        max_t=config.num_reports,
        grace_period=1,
        reduction_factor=2,
    )


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


def _trials_file(out: str | Path | None) -> Path | None:
    if out is None:
        return None
    file = Path(out) / "trials.jsonl"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    except OSError as e:
        raise OutputError(f"{file}: can't be written: {e.strerror or e}") from None
    return file
