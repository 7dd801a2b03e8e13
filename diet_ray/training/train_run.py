"""One candidate trained on a whole log by several Ray Train workers, as a folder.

    OUT/run.json            what is trained, on what, and how
    OUT/checkpoints/        the last two checkpoints, see `diet_ray.training.checkpoints`
    OUT/model.safetensors   the weights, which `diet score --checkpoint` takes
    OUT/train.json          figures; written last

A run that was killed goes on from its last checkpoint when called again, to the same bits as one
that never was; when a worker dies, the others start again from there by themselves.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import ray
import ray.train
import torch
from ray.train.torch import TorchTrainer
from rich.console import Console

from diet_ray import errors
from diet_ray.cluster import unchanged_handler
from diet_ray.config import from_mapping, to_mapping
from diet_ray.data.log import PreparedLog
from diet_ray.documents import parse_json
from diet_ray.errors import ClusterError, ConfigError, DietError, OutputError, describe
from diet_ray.models.catalogue import Candidate, completed, fields_of
from diet_ray.progress import Progress
from diet_ray.report import format as fmt
from diet_ray.search.evaluation import Evaluation, evaluation_rows
from diet_ray.search.workers import WorkersConfig
from diet_ray.storage import Folder, LockFile
from diet_ray.training.board import TrainBoard
from diet_ray.training.config import TrainConfig
from diet_ray.training.full_runs import TRAIN_ENVIRONMENT
from diet_ray.training.parallel import MODEL, PeerLost, Peers, TrainPart, TrainWork

RESULT = "train.json"
_ABOUT, _LOCK = "run.json", "lock"
_LOG_PATH = "log_path"
"""For the reader alone: a log may move."""
_FREE_KEYS = frozenset({"checkpoint_every_rows", "max_failures"})
"""Settings that change no bit of the result."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The content of train.json."""

    allows_nan: ClassVar[bool] = True
    """A training that diverged has a loss all the same."""
    candidate: Candidate
    seed: int
    log: str
    """Fingerprint of the log."""
    config: TrainConfig
    num_workers: int
    """Of the call that finished."""
    device: str
    num_rows: int
    """Rows trained on, every epoch counted."""
    num_steps: int
    num_epochs: int
    seconds: float
    """Of training, validation and checkpoints, over all calls; work that was lost isn't in it."""
    rows_per_s: float
    validation_auc: tuple[float, ...]
    """On the rows held out, after each epoch; empty if there are none."""
    best_epoch: int | None
    """Whose weights were kept, counted from 1; None: the last."""
    evaluation: Evaluation | None
    """On the test tail; None if the log has none."""
    num_evaluation_rows: int
    loss_curve: tuple[tuple[float, ...], ...]
    """(rows so far, mean training loss since the point before)"""


def train_parallel(
    candidate: Candidate,
    log: PreparedLog,
    seed: int,
    config: TrainConfig,
    out: Path,
    workers: WorkersConfig | None = None,
    console: Console | None = None,
) -> TrainResult:
    """Trains `candidate` once on the log's training part, and judges it on the test tail.

    Each of `workers.num_workers` (default: one) has its part of every mini-batch; the result is one
    worker's up to rounding. A finished run is read. `out` must be a folder that all nodes see.

    Raises `OutputError` if `out` holds something else, `ClusterError` if the cluster has no room or
    workers died more than `config.max_failures` times, `DataError` for rows that can't be read, and
    `ConfigError` if the candidate fails.
    """
    fields_of(candidate, log.features)
    folder = Folder.at(out)
    _claim(folder, _about(candidate, log, seed, config))
    if folder.exists(RESULT):
        return _read_result(folder)
    resolved = (workers or WorkersConfig(num_workers=1)).resolve(1)
    rows = evaluation_rows(log, config.evaluation_rows) if log.num_test_rows else None
    work = TrainWork(
        candidate=candidate, log=log, seed=seed, config=config, out=Path(out).absolute(), rows=rows
    )
    if work.num_train_rows < 1:
        raise ConfigError(f"validation_share {config.validation_share}: no row is left to train on")
    try:
        lock = LockFile(folder.path_of(_LOCK), f"process {os.getpid()}")
    except BlockingIOError as e:
        raise OutputError(f"{folder}: {e} is training here: wait for it, or stop it") from None
    try:
        _train(work, resolved, console)
    finally:
        lock.release()
    return _read_result(folder)


def print_trained(result: TrainResult, out: Path, console: Console) -> None:
    """The figures of a run, a line each."""
    found = result.evaluation
    lines = [f"{result.candidate.name}, seed {result.seed}, {result.num_epochs} epoch(s)"]
    if result.validation_auc:
        aucs = ", ".join(f"{a:.4f}" for a in result.validation_auc)
        lines.append(f"AUC on the rows held out, by epoch: {aucs}; kept: epoch {result.best_epoch}")
    if found is not None:
        lines.append(
            f"Test tail, {result.num_evaluation_rows:,} rows: AUC {found.auc:.4f}, log loss "
            f"{found.logloss:.4f} on the first half; {found.regret_auc:.4f} and "
            f"{found.regret_logloss:.4f} on the second"
        )
    lines.append(
        f"{result.num_rows:,} rows in {fmt.duration(result.seconds)}, "
        f"{fmt.count(result.rows_per_s)} rows/s on {result.num_workers} worker(s)"
    )
    lines.append(f"Weights: {out / MODEL}")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _about(
    candidate: Candidate, log: PreparedLog, seed: int, config: TrainConfig
) -> dict[str, Any]:
    settings = {k: v for k, v in to_mapping(config).items() if k not in _FREE_KEYS}
    return {
        "candidate": to_mapping(candidate),
        "seed": seed,
        "log": log.fingerprint,
        _LOG_PATH: log.path,
        "config": settings,
    }


def _claim(folder: Folder, about: dict[str, Any]) -> None:
    """Makes the folder this run's, or checks that it is."""
    if not folder.exists(_ABOUT):
        if folder.names():
            raise OutputError(f"{folder}: exists and holds no training run: choose another --out")
        folder.write(_ABOUT, json.dumps(about, indent=1).encode())
        return
    found = _read(folder, _ABOUT)
    found["candidate"] = completed(found.get("candidate"))
    settings = found.get("config")
    if not isinstance(settings, dict):
        raise OutputError(f"{folder}/{_ABOUT}: has no `config`; delete the folder")
    different = [k for k in about if k not in (_LOG_PATH, "config") and found.get(k) != about[k]]
    different += [k for k, v in about["config"].items() if settings.get(k) != v]
    if different:
        raise OutputError(
            f"{folder}: holds a training run of another {' and '.join(different)}: "
            "choose another --out"
        )


def _read_result(folder: Folder) -> TrainResult:
    return from_mapping(TrainResult, _read(folder, RESULT), f"{folder}/{RESULT}")


def _read(folder: Folder, name: str) -> dict[str, Any]:
    try:
        content = folder.read(name)
    except OSError as e:
        raise OutputError(f"{folder}/{name}: can't be read: {e}") from None
    return parse_json(content, f"{folder}/{name}", OutputError)


def _train(work: TrainWork, workers: WorkersConfig, console: Console | None) -> None:
    os.environ.update(TRAIN_ENVIRONMENT)
    board: Any = ray.remote(num_cpus=0)(TrainBoard).remote()
    # By reference: the controller, which starts first, then needs to load none of it.
    loop = {"board": board, "work": ray.put(work), "num_threads": workers.cpus_per_worker}
    resources = {"CPU": workers.cpus_per_worker} | ({"GPU": 1} if workers.use_gpu else {})
    total_rows = work.config.epochs * work.num_train_rows
    with tempfile.TemporaryDirectory(prefix="diet-train-") as storage:
        trainer = TorchTrainer(
            _work,
            train_loop_config=loop,
            scaling_config=ray.train.ScalingConfig(
                num_workers=workers.num_workers or 1,
                use_gpu=bool(workers.use_gpu),
                resources_per_worker=resources,
            ),
            # Checkpoints are the run's own, so that they outlive Ray's storage and its cluster.
            run_config=ray.train.RunConfig(
                name="train",
                storage_path=storage,
                failure_config=ray.train.FailureConfig(max_failures=work.config.max_failures),
                logging_config=ray.train.LoggingConfig(log_level="ERROR"),
            ),
        )
        try:
            with _shown(board, total_rows, console), unchanged_handler(signal.SIGINT):
                try:
                    trainer.fit()
                except ray.train.TrainingFailedError as e:
                    _raise_failure(board, work)
                    raise _lost(e, work) from None
                _raise_failure(board, work)
        finally:
            ray.kill(board)


@contextmanager
def _shown(board: Any, total_rows: int, console: Console | None) -> Iterator[None]:
    """Shows what the workers say of their progress, on a thread of its own."""
    trouble: list[BaseException] = []
    failed = threading.Event()

    def listen() -> None:
        message = ray.get(board.next_message.remote())
        if message is None:
            return
        resumed = message["rows"]
        with Progress(total_rows, "train", completed_rows=resumed, console=console) as progress:
            while message is not None:
                if message["rows"] < progress.done_rows:
                    progress.note(f"a worker was lost: goes on after {message['rows']:,} rows")
                progress.advance(message["rows"] - progress.done_rows, loss=message["loss"])
                message = ray.get(board.next_message.remote())
            if failed.is_set():
                # It then says that it stopped.
                raise InterruptedError

    def watched() -> None:
        try:
            listen()
        except InterruptedError:
            pass
        except BaseException as e:
            trouble.append(e)

    listener = threading.Thread(target=watched, name="train-progress", daemon=True)
    listener.start()
    try:
        yield
    except BaseException:
        failed.set()
        raise
    finally:
        ray.get(board.close.remote())
        listener.join()
    if trouble:
        raise trouble[0]


def _work(loop: dict[str, Any]) -> None:
    """What each worker does. Never reports to Ray Train."""
    board, context = loop["board"], ray.train.get_context()
    if ray.get(board.failure.remote()) is not None:
        return
    work: TrainWork = ray.get(loop["work"])
    torch.set_num_threads(loop["num_threads"])
    device = str(ray.train.torch.get_device())
    peers = Peers(context.get_world_rank(), context.get_world_size())

    def report(num_rows: int, loss: float | None) -> None:
        board.put.remote({"rows": num_rows, "loss": loss})

    try:
        part = TrainPart(work, peers, device, report)
        trained = part.run()
        if trained is None:
            return
        state = trained.state
        result = TrainResult(
            candidate=work.candidate,
            seed=work.seed,
            log=work.log.fingerprint,
            config=work.config,
            num_workers=peers.num_workers,
            device=device.partition(":")[0],
            num_rows=state.num_rows,
            num_steps=state.num_steps,
            num_epochs=state.epoch,
            seconds=state.seconds,
            rows_per_s=state.num_rows / state.seconds,
            validation_auc=state.validation_auc,
            best_epoch=state.best_epoch,
            evaluation=trained.evaluation,
            num_evaluation_rows=0 if work.rows is None else len(work.rows),
            loss_curve=trained.loss_curve,
        )
        Folder.at(work.out).write(RESULT, json.dumps(to_mapping(result), indent=1).encode())
    except PeerLost:
        # Ray Train sees who is gone, and starts all again.
        raise
    except Exception as e:
        text = str(e) if isinstance(e, DietError) else describe(e)
        ray.get(board.fail.remote(type(e).__name__, text))
        if peers.num_workers > 1:
            # Ends the others, too, which wait for this one.
            raise


def _raise_failure(board: Any, work: TrainWork) -> None:
    """Raises what a worker failed of by itself, if any did."""
    failure = ray.get(board.failure.remote())
    if failure is None:
        return
    kind, text = failure
    error = getattr(errors, kind, None)
    if isinstance(error, type) and issubclass(error, DietError):
        raise error(text)
    raise ConfigError(f"candidate `{work.candidate.name}`: {text}")


def _lost(error: Exception, work: TrainWork) -> ClusterError:
    failures = list((getattr(error, "worker_failures", None) or {}).values())
    # Who lost a peer isn't the one that died, unless nobody else did.
    causes = [f for f in failures if "PeerLost" not in str(f)] or failures or [error]
    lines = [line.strip() for line in str(causes[0]).splitlines() if line.strip()] or ["no message"]
    reason = lines[-1] if lines[0].startswith("Traceback") else lines[0]
    return ClusterError(
        f"candidate `{work.candidate.name}`: workers died more than {work.config.max_failures} "
        f"times, the last: {reason[:300]}; start again to go on from the last checkpoint"
    )
