"""`RUN/status.json`: what a run is doing, replaced whole, for schedulers and scripts to poll."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from diet_ray.config import from_mapping
from diet_ray.documents import load_json
from diet_ray.errors import ConfigError, DataError, DietError
from diet_ray.monitoring.observer import Outcome, Rows, StagePoint
from diet_ray.storage import Folder

NAME = "status.json"
HEARTBEAT_S = 10.0
SILENT_S = 60.0
"""A run that has not written for so long has gone."""

State = Literal["running", "finished", "stopped", "failed"]
EXIT_CODES = {"finished": 0, "failed": 2, "running": 3, "gone": 4, "stopped": 4}
"""Of `diet status`; after 4 the same command goes on with the run."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """Times are seconds since 1970."""

    state: State
    command: str
    pid: int
    host: str
    started_s: float
    updated_s: float
    stage: int | None = None
    """Committed ones."""
    num_stages: int | None = None
    rows: int | None = None
    total_rows: int | None = None
    rows_per_s: float | None = None
    left_s: float | None = None
    slots: int | None = None
    log_loss: float | None = None
    error: str | None = None

    def seen_at(self, now_s: float) -> str:
        """The state, or `gone` if it says running and nobody writes any more."""
        gone = self.state == "running" and now_s - self.updated_s > SILENT_S
        return "gone" if gone else self.state


def read_status(run: Path) -> Status:
    """Raises `DataError` naming the file that is missing or broken."""
    where = run / NAME
    if not where.exists():
        raise DataError(f"{where}: no such file: no run was started here")
    content = load_json(where)
    try:
        return from_mapping(Status, content, str(where))
    except ConfigError as e:
        raise DataError(f"{where}: can't be read: {e}") from None


class StatusFile:
    """An observer; a thread of its own says that the process is alive."""

    def __init__(self, run: Path, command: str) -> None:
        self._folder = Folder.at(run)
        now = time.time()
        self._lock = threading.Lock()
        self._status = Status(
            state="running",
            command=command,
            pid=os.getpid(),
            host=platform.node(),
            started_s=now,
            updated_s=now,
        )
        self._write()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="diet-status", daemon=True)
        self._thread.start()

    def on_rows(self, rows: Rows) -> None:
        """Noted; written with the next heartbeat or stage, since a write waits for the disk."""
        left = None if not rows.per_s else (rows.total - rows.done) / rows.per_s
        with self._lock:
            self._status = replace(
                self._status,
                rows=rows.done,
                total_rows=rows.total,
                rows_per_s=rows.per_s,
                left_s=left,
            )

    def on_stage(self, point: StagePoint) -> None:
        with self._lock:
            self._status = replace(
                self._status,
                stage=point.number,
                num_stages=point.num_stages,
                slots=point.slots,
                log_loss=point.log_loss,
            )
            self._write()

    def close(self, outcome: Outcome, error: BaseException | None) -> None:
        self._ended.set()
        self._thread.join()
        text = None if error is None or outcome == "stopped" else " ".join(str(error).split())
        left = 0.0 if outcome == "finished" else None
        with self._lock:
            self._status = replace(self._status, state=outcome, error=text, left_s=left)
            self._write()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            # A disk that is full now may not be in ten seconds, and silence reads as death.
            with self._lock, suppress(DietError, OSError):
                self._write()

    def _write(self) -> None:
        self._status = replace(self._status, updated_s=time.time())
        self._folder.write(NAME, json.dumps(asdict(self._status), indent=1).encode())
