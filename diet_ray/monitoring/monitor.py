"""The observers of one run, from its start to its end, whichever it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from diet_ray.data.log import PreparedLog
from diet_ray.data.schema import Schema
from diet_ray.distillation.pipeline import Watcher
from diet_ray.distillation.stream import StageRecord
from diet_ray.memory.slots import slot_schema
from diet_ray.monitoring.observer import LoggerName, Observer, Observers, Outcome, Rows, StagePoint
from diet_ray.monitoring.ray_metrics import RayMetrics
from diet_ray.monitoring.status_file import StatusFile
from diet_ray.monitoring.trackers import LOGGERS
from diet_ray.parquet import value_bytes
from diet_ray.progress import Progress
from diet_ray.stopping import last_words, was_told_to_stop

ROWS_EVERY_S = 1.0
"""Observers hear of rows no more often."""


@contextmanager
def monitored(run: Path, command: str, loggers: Sequence[LoggerName]) -> Iterator[Observers]:
    """Opens the observers of a run whose folder exists, and tells them how it ended.

    Raises `ConfigError` if a logger's library isn't installed.
    """
    opened: list[Observer] = []
    try:
        opened += (LOGGERS[name](run) for name in loggers)
        status = StatusFile(run, command)
        opened.insert(0, status)
        opened.insert(1, RayMetrics(run.absolute().name))
    except BaseException as e:
        Observers(opened).close(outcome_of(e), e)
        raise
    observers = Observers(opened)
    try:
        with last_words(lambda: status.close("stopped", None)):
            yield observers
    except BaseException as e:
        observers.close(outcome_of(e), e)
        raise
    observers.close("finished", None)


def outcome_of(error: BaseException) -> Outcome:
    """What unwinding after SIGTERM comes upon is no failure."""
    return "failed" if isinstance(error, Exception) and not was_told_to_stop() else "stopped"


def watcher_of(
    log: PreparedLog,
    progress: Progress,
    observers: Observers,
    clock: Callable[[], float] = time.time,
) -> Watcher:
    """Tells progress and observers what the pipeline does."""
    num_stages = len(log.train_stages)
    place = {s.index: i for i, s in enumerate(log.train_stages, 1)}
    end_s = {s.index: s.end_us / 1e6 for s in log.train_stages}
    slot_bytes = bytes_of_slot(log.schema)
    last_s = -ROWS_EVERY_S
    # Where counting begins.
    observers.on_rows(_rows(progress))

    def on_rows(num_rows: int) -> None:
        nonlocal last_s
        progress.advance(num_rows)
        if time.monotonic() - last_s >= ROWS_EVERY_S:
            last_s = time.monotonic()
            observers.on_rows(_rows(progress))

    def on_step(stage: int, step: str) -> None:
        if step == "published":
            progress.start_stage(place[stage], num_stages)

    def on_stage(record: StageRecord) -> None:
        progress.end_stage(slots=record.slots, log_loss=record.progressive_log_loss)
        observers.on_rows(_rows(progress))
        point = StagePoint(
            number=place[record.stage],
            num_stages=num_stages,
            rows_seen=record.rows_seen,
            slots=record.slots,
            memory_bytes=record.slots * slot_bytes,
            lag_s=clock() - end_s[record.stage],
            log_loss=record.progressive_log_loss,
            mean_influence=record.mean_influence,
        )
        observers.on_stage(point)

    return Watcher(on_rows=on_rows, on_step=on_step, on_stage=on_stage)


def bytes_of_slot(schema: Schema) -> int:
    """Of one row of the slot table."""
    return sum(value_bytes(f.type) for f in slot_schema(schema))


def _rows(progress: Progress) -> Rows:
    total = progress.total_rows or progress.done_rows
    return Rows(done=progress.done_rows, total=total, per_s=progress.rows_per_s())
