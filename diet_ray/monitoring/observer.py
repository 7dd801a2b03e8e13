"""What a run says to those who watch it. An observer may not stop a run: it does no work of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Protocol

Outcome = Literal["finished", "stopped", "failed"]
"""`stopped`: by a signal; the same command goes on. `failed`: by an error."""
LoggerName = Literal["tensorboard", "mlflow"]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Where a run is in its stream."""

    done: int
    total: int
    per_s: float | None
    """Over about the last minute."""


@dataclass(frozen=True, kw_only=True)
class StagePoint:
    """A committed stage, in figures."""

    number: int
    """Counted from 1."""
    num_stages: int
    rows_seen: int
    slots: int
    memory_bytes: int
    """Of the slots, as they lie in memory."""
    lag_s: float
    """From the timestamp of the newest row distilled until now."""
    log_loss: float
    """Of the proxies, every row predicted before it was trained on."""
    mean_influence: float


class Observer(Protocol):
    def on_rows(self, rows: Rows) -> None: ...

    def on_stage(self, point: StagePoint) -> None: ...

    def close(self, outcome: Outcome, error: BaseException | None) -> None: ...


class Observers:
    """Several as one; what one of them raises is dropped, so that the run goes on."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def on_rows(self, rows: Rows) -> None:
        self._each(lambda o: o.on_rows(rows))

    def on_stage(self, point: StagePoint) -> None:
        self._each(lambda o: o.on_stage(point))

    def close(self, outcome: Outcome, error: BaseException | None) -> None:
        self._each(lambda o: o.close(outcome, error))

    def _each(self, call: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            with suppress(Exception):
                call(observer)
