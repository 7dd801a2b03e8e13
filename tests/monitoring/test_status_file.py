from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from diet_ray.errors import DataError, OutputError
from diet_ray.monitoring import status_file
from diet_ray.monitoring.status_file import SILENT_S, StatusFile, read_status
from tests.monitoring.points import ROWS, point


def test_what_a_poller_reads(tmp_path: Path) -> None:
    file = StatusFile(tmp_path, "distill")
    begun = read_status(tmp_path)
    assert (begun.state, begun.command, begun.pid) == ("running", "distill", os.getpid())
    file.on_rows(ROWS)
    file.on_stage(point(2))
    status = read_status(tmp_path)
    assert (status.stage, status.num_stages, status.slots) == (2, 3, 20)
    assert (status.rows, status.total_rows, status.left_s) == (150, 300, 3.0)
    assert status.updated_s >= begun.updated_s
    file.close("finished", None)
    assert read_status(tmp_path).state == "finished"


@pytest.mark.parametrize(
    ("outcome", "error", "text"),
    [
        ("failed", DataError("log.csv:\nrow 3"), "log.csv: row 3"),
        ("stopped", SystemExit(143), None),
    ],
)
def test_how_it_ended(outcome: str, error: BaseException, text: str | None, tmp_path: Path) -> None:
    StatusFile(tmp_path, "update").close(outcome, error)  # type: ignore[arg-type]
    status = read_status(tmp_path)
    assert (status.state, status.error) == (outcome, text)


def test_a_run_that_is_silent_has_gone(tmp_path: Path) -> None:
    StatusFile(tmp_path, "distill").close("finished", None)
    done = read_status(tmp_path)
    running = replace(done, state="running")
    assert running.seen_at(running.updated_s + SILENT_S - 1) == "running"
    assert running.seen_at(running.updated_s + SILENT_S + 1) == "gone"
    assert done.seen_at(done.updated_s + 10 * SILENT_S) == "finished"


def test_a_heartbeat_says_that_the_process_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_file, "HEARTBEAT_S", 0.01)
    written = threading.Semaphore(0)
    write = StatusFile._write

    def counted(self: StatusFile) -> None:
        write(self)
        written.release()

    monkeypatch.setattr(StatusFile, "_write", counted)
    file = StatusFile(tmp_path, "distill")
    first = read_status(tmp_path)
    while written.acquire(blocking=False):
        pass
    # The write that `first` tells of may be counted only now.
    for _ in range(2):
        assert written.acquire(timeout=30)
    assert read_status(tmp_path).updated_s > first.updated_s
    file.close("finished", None)


def test_a_heartbeat_that_fails_is_not_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_file, "HEARTBEAT_S", 0.01)
    file = StatusFile(tmp_path, "distill")
    tried = threading.Semaphore(0)

    def refuse(self: StatusFile) -> None:
        tried.release()
        raise OutputError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(StatusFile, "_write", refuse)
        for _ in range(3):
            assert tried.acquire(timeout=30)
    file.close("finished", None)


def test_no_run_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run was started here"):
        read_status(tmp_path)
    (tmp_path / "status.json").write_text(json.dumps({"state": "running"}))
    with pytest.raises(DataError, match=r"status\.json"):
        read_status(tmp_path)
