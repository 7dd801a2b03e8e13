"""Full-data reference runs on Ray Train: every candidate and seed in one trainer.

Runs are independent, so a worker takes one after the other, longest first, and a run isn't split.
Finished runs travel to the driver at once and are kept there as `<content hash>.json`: a killed
comparison goes on where it stood, and a later one pays only for runs that it has not seen.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from diet_ray.cluster import unchanged_handler
from diet_ray.data.log import PreparedLog
from diet_ray.documents import parse_json
from diet_ray.errors import ClusterError, DataError, DietError, describe
from diet_ray.models.catalogue import Candidate
from diet_ray.search import results
from diet_ray.search.evaluation import NUM_BLOCKS, EvaluationRows
from diet_ray.search.runs import FullRunConfig, RunResult, full_run
from diet_ray.search.size import size_if_built
from diet_ray.search.workers import WorkersConfig
from diet_ray.storage import Folder
from diet_ray.training.board import RunBoard

FORMAT = 2
"""Of persisted results; raised whenever what a full run computes changes."""


TRAIN_ENVIRONMENT = {
    # Paths of the log and modules of candidates may be relative to where the driver runs.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # A lost node is an error like any other: kept results, or a checkpoint, make a new start cheap.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    candidate: Candidate
    seed: int
    file: str
    """Where its result is kept."""


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What every worker needs."""

    specs: list[RunSpec]
    log: PreparedLog
    rows: EvaluationRows
    config: FullRunConfig
    num_threads: int
    device: str


@dataclass(frozen=True, kw_only=True)
class RunFailure:
    """A run that raised: the candidate's own fault, the other runs go on."""

    name: str
    seed: int
    error: str


@dataclass(frozen=True, kw_only=True)
class FullRuns:
    results: dict[tuple[str, int], RunResult]
    """By candidate name and seed."""
    failures: dict[str, str]
    """Candidate name -> what went wrong in the first of its runs that failed."""
    num_reused: int
    """Results that were read from disk."""
    num_workers: int

    def mean_auc(self, name: str) -> float | None:
        """Mean over seeds of a candidate's AUC on the ranking slice; None if a run of it failed."""
        aucs = [r.evaluation.auc for (own, _), r in self.results.items() if own == name]
        return sum(aucs) / len(aucs) if aucs and name not in self.failures else None


def train_full(
    candidates: Sequence[Candidate],
    seeds: Sequence[int],
    log: PreparedLog,
    rows: EvaluationRows,
    config: FullRunConfig,
    out: str | Path | Folder,
    workers: WorkersConfig | None = None,
    on_outcome: Callable[[RunResult | RunFailure], None] | None = None,
) -> FullRuns:
    """Trains and judges every candidate with every seed; reuses what `<out>/full_runs` holds.

    Candidates that are one model under two names share their runs. `on_outcome` is called from
    another thread, once a run that isn't reused. Raises `ClusterError` if the cluster has too few
    CPUs, or a worker dies, naming the candidate it was at.
    """
    folder = Folder.at(out) / "full_runs"
    resolved = (workers or WorkersConfig()).resolve(len(candidates) * len(seeds))
    specs = [
        RunSpec(candidate=c, seed=s, file=run_file(c, s, log, rows, config, bool(resolved.use_gpu)))
        for c in candidates
        for s in seeds
    ]
    done = {spec.file: kept for spec in specs if (kept := read_result(folder, spec.file))}
    num_reused = sum(spec.file in done for spec in specs)
    unique: dict[str, RunSpec] = {}
    for spec in specs:
        if spec.file not in done:
            unique.setdefault(spec.file, spec)
    missing = sorted(unique.values(), key=lambda s: -cost(s.candidate, log))
    failures: dict[str, str] = {}

    def keep(spec: RunSpec, outcome: RunResult | RunFailure) -> None:
        if isinstance(outcome, RunResult):
            write_result(folder, spec.file, outcome)
            done[spec.file] = outcome
        else:
            failures.setdefault(spec.file, outcome.error)
        if on_outcome is not None:
            on_outcome(outcome)

    if missing:
        _train(missing, log, rows, config, resolved, keep)
    for spec in missing:
        if spec.file not in done and spec.file not in failures:
            raise ClusterError(
                f"full run of `{spec.candidate.name}` (seed {spec.seed}) got lost with its worker; "
                "finished runs are kept, start again to go on"
            )
    failed: dict[str, str] = {}
    for spec in specs:
        if spec.file in failures:
            failed.setdefault(spec.candidate.name, failures[spec.file])
    return FullRuns(
        results={
            (s.candidate.name, s.seed): replace(done[s.file], name=s.candidate.name)
            for s in specs
            if s.file in done
        },
        failures=failed,
        num_reused=num_reused,
        num_workers=resolved.num_workers or 1,
    )


def cost(candidate: Candidate, log: PreparedLog) -> float:
    """What orders runs, longest first: parameters beside the table, steps breaking ties.

    0 if the model can't be built, which its run will tell.
    """
    size = size_if_built(candidate, log.features)
    return 0.0 if size is None else size.dense + 1.0 / candidate.batch_size


def run_file(
    candidate: Candidate,
    seed: int,
    log: PreparedLog,
    rows: EvaluationRows,
    config: FullRunConfig,
    use_gpu: bool,
) -> str:
    """The name of a run's result: a hash of all that it depends on, the candidate's name not."""
    content = {
        "format": FORMAT,
        "candidate": candidate.identity,
        "seed": seed,
        "log": log.fingerprint,
        "evaluation_rows": [len(rows), rows.num_ranking, NUM_BLOCKS],
        "epochs": config.epochs,
        "batch_size": config.batch_size_of(candidate),
        "device": "gpu" if use_gpu else "cpu",
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{digest[:32]}.json"


def write_result(folder: Folder, file: str, result: RunResult) -> None:
    """Keeps a result for `read_result`."""
    content = {"format": FORMAT, "result": results.to_json(result)}
    folder.write(file, json.dumps(content, indent=1).encode())


def read_result(folder: Folder, file: str) -> RunResult | None:
    """A result kept earlier; None if there is none that can be read."""
    try:
        content = parse_json(folder.read(file), f"{folder}/{file}", DataError)
        kept = results.from_json(content.get("result", {}))
    except (OSError, DietError):
        return None
    return kept if content.get("format") == FORMAT else None


def _train(
    specs: list[RunSpec],
    log: PreparedLog,
    rows: EvaluationRows,
    config: FullRunConfig,
    workers: WorkersConfig,
    keep: Callable[[RunSpec, RunResult | RunFailure], None],
) -> None:
    os.environ.update(TRAIN_ENVIRONMENT)
    board: Any = ray.remote(num_cpus=0)(RunBoard).remote(len(specs))
    trouble: list[BaseException] = []

    def listen() -> None:
        try:
            while (message := ray.get(board.next_outcome.remote())) is not None:
                spec, outcome = specs[message[0]], message[1]
                try:
                    if "error" in outcome:
                        name = spec.candidate.name
                        keep(spec, RunFailure(name=name, seed=spec.seed, error=outcome["error"]))
                    else:
                        keep(spec, results.from_json(outcome))
                except Exception as e:
                    # What comes later may find the storage in order again.
                    trouble.append(e)
        except BaseException as e:
            trouble.append(e)

    listener = threading.Thread(target=listen, name="full-runs", daemon=True)
    listener.start()
    num_workers = min(workers.num_workers or 1, len(specs))
    # By reference: the controller, which starts first, then needs to load none of it.
    work = ray.put(
        _Work(
            specs=specs,
            log=log,
            rows=rows,
            config=config,
            num_threads=workers.cpus_per_worker,
            device="cuda" if workers.use_gpu else "cpu",
        )
    )
    with tempfile.TemporaryDirectory(prefix="diet-full-runs-") as storage:
        # Runs are independent: TorchTrainer's process group would only cost seconds to form.
        trainer = DataParallelTrainer(
            _take_runs,
            train_loop_config={"board": board, "work": work},
            scaling_config=ray.train.ScalingConfig(
                num_workers=num_workers,
                use_gpu=bool(workers.use_gpu),
                resources_per_worker={"CPU": workers.cpus_per_worker}
                | ({"GPU": 1} if workers.use_gpu else {}),
            ),
            # Nothing is checkpointed: results go to the driver, so no shared storage is needed.
            run_config=ray.train.RunConfig(
                name="full-runs",
                storage_path=storage,
                failure_config=ray.train.FailureConfig(max_failures=0),
                logging_config=ray.train.LoggingConfig(log_level="ERROR"),
            ),
        )
        try:
            with unchanged_handler(signal.SIGINT):
                trainer.fit()
        except ray.train.TrainingFailedError as e:
            running = ray.get(board.running.remote())
            raise _named_failure(e, {w: specs[i] for w, i in running.items()}) from None
        finally:
            ray.get(board.close.remote())
            listener.join()
            ray.kill(board)
    if trouble:
        raise trouble[0]


def _take_runs(loop: dict[str, Any]) -> None:
    """What each worker does: takes runs until there are none left. Never reports to Ray Train."""
    board, worker = loop["board"], ray.train.get_context().get_world_rank()
    work: _Work = ray.get(loop["work"])
    torch.set_num_threads(work.num_threads)
    while (index := ray.get(board.take.remote(worker))) is not None:
        spec = work.specs[index]
        try:
            run = full_run(spec.candidate, work.log, spec.seed, work.rows, work.config, work.device)
            outcome = results.to_json(run)
        except Exception as e:
            outcome = {"error": describe(e)}
        ray.get(board.deliver.remote(worker, outcome))


def _named_failure(error: Exception, running: dict[int, RunSpec]) -> ClusterError:
    ranks = getattr(error, "worker_failures", {}) or {}
    culprits = [running[r] for r in sorted(ranks) if r in running] or list(running.values())
    names = ", ".join(f"`{s.candidate.name}` (seed {s.seed})" for s in culprits)
    cause = next(iter(ranks.values()), error)
    reason = next((line for line in str(cause).splitlines() if line.strip()), "no message")
    return ClusterError(
        f"full run of {names or 'no candidate yet'}: its worker died: {reason.strip()[:300]}; "
        "finished runs are kept, start again to go on"
    )
