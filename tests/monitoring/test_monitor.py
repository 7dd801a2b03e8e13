from __future__ import annotations

import io
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from diet_ray.distillation.stream import StageRecord
from diet_ray.errors import ConfigError, DataError
from diet_ray.memory.slots import empty_slots
from diet_ray.monitoring import monitor
from diet_ray.monitoring.monitor import bytes_of_slot, monitored, watcher_of
from diet_ray.monitoring.observer import Observers, Rows, StagePoint
from diet_ray.monitoring.status_file import read_status
from diet_ray.progress import Progress
from tests.distillation.small_log import SCHEMA, small_log
from tests.memory.small_memory import click_schema, make_slots


class Seen:
    """An observer that notes what it is told."""

    def __init__(self) -> None:
        self.rows: list[Rows] = []
        self.points: list[StagePoint] = []
        self.closed: list[Any] = []

    def on_rows(self, rows: Rows) -> None:
        self.rows.append(rows)

    def on_stage(self, point: StagePoint) -> None:
        self.points.append(point)

    def close(self, outcome: Any, error: BaseException | None) -> None:
        self.closed.append((outcome, error))


class Broken(Seen):
    def on_stage(self, point: StagePoint) -> None:
        raise OSError("the server is away")


def record(stage: int) -> StageRecord:
    return StageRecord(
        stage=stage, rows=160, rows_seen=160 * (stage + 1), slots=7, proposed=7, addressed=0,
        fused=0, refinement_accepted=False, refinement_loss_before=None,
        refinement_loss_after=None, mean_influence=0.5, progressive_log_loss=0.7,
        bytes_received=1,
    )  # fmt: skip


def test_observers_hear_of_a_stage_and_none_can_stop_a_run(tmp_path: Path) -> None:
    log, seen = small_log(tmp_path), Seen()
    progress = Progress(480, "distil", console=Console(file=io.StringIO()))
    with progress:
        observers = Observers([Broken(), seen])
        watcher = watcher_of(log, progress, observers, clock=lambda: 1000.0)
        watcher.on_step(1, "published")
        watcher.on_rows(160)
        watcher.on_stage(record(1))
    (point,) = seen.points
    assert (point.number, point.num_stages, point.slots, point.rows_seen) == (2, 3, 7, 320)
    assert point.memory_bytes == 7 * bytes_of_slot(SCHEMA)
    # Timestamps are seconds; the second stage's last row is the 319th.
    assert point.lag_s == 1000.0 - 319
    assert seen.rows[-1].done == 160
    assert seen.rows[-1].total == 480


def test_bytes_of_a_slot_are_those_of_its_table() -> None:
    table = make_slots(64)
    assert bytes_of_slot(click_schema()) * 64 == table.nbytes
    assert empty_slots(click_schema()).nbytes == 0


@pytest.mark.parametrize(
    ("error", "state"),
    [(None, "finished"), (DataError("bad"), "failed"), (SystemExit(143), "stopped")],
)
def test_a_run_says_how_it_ended(
    error: BaseException | None, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen()
    monkeypatch.setattr(monitor, "RayMetrics", lambda run: seen)
    expected = nullcontext() if error is None else pytest.raises(type(error))
    with expected, monitored(tmp_path, "distill", ()):
        assert read_status(tmp_path).state == "running"
        if error is not None:
            raise error
    assert read_status(tmp_path).state == state
    assert seen.closed == [(state, error)]


def test_what_was_opened_is_closed_when_something_can_not_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen()

    def missing(run: Path) -> Seen:
        raise ConfigError("loggers: mlflow isn't installed")

    loggers = {"tensorboard": lambda run: seen, "mlflow": missing}
    monkeypatch.setattr(monitor, "LOGGERS", loggers)
    with (
        pytest.raises(ConfigError, match="mlflow"),
        monitored(tmp_path, "distill", ("tensorboard", "mlflow")),
    ):
        pass
    assert [outcome for outcome, _ in seen.closed] == ["failed"]


def test_counting_begins_before_the_first_rows(tmp_path: Path) -> None:
    seen = Seen()
    with Progress(480, "distil", console=Console(file=io.StringIO())) as progress:
        watcher_of(small_log(tmp_path), progress, Observers([seen]))
    assert [r.done for r in seen.rows] == [0]
