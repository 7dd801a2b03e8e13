"""Watching a Ray Data execution from within, so that it can be ended and never waits in vain.

Ray Data waits for ever for an actor that finds no place, and ends an execution early only between
two results. It calls back at every step of its scheduling loop, though, a few times a second, and
what is raised there ends the execution.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data.exceptions import ExecutionTimeoutError

from diet_ray.cluster import no_place


# Ray Data logs any other exception as a defect of its own, with a stack trace.
class Ended(ExecutionTimeoutError):
    """The execution was told to end."""


class NoPlace(ExecutionTimeoutError):
    """Shards wait for an actor that finds no place on the cluster; says what it needs."""


class Watch:
    """Ends an execution on demand, or once shards have waited too long for an actor's place.

    num_cpus, num_gpus: what an actor holds.
    """

    def __init__(
        self, purpose: str, num_cpus: float, num_gpus: float, start_timeout_s: float
    ) -> None:
        self._purpose = purpose
        self._num_cpus = num_cpus
        self._num_gpus = num_gpus
        self._start_timeout_s = start_timeout_s
        self._progress: tuple[int, ...] = ()
        self._progress_s = time.monotonic()
        self.ended = threading.Event()
        """Set it to end the execution."""
        self.started = threading.Event()
        """An actor runs."""

    @contextmanager
    def over_this_thread(self) -> Iterator[None]:
        """Watches the execution that the thread starts; its context must list `Step`."""
        token = _WATCH.set(self)
        try:
            yield
        finally:
            _WATCH.reset(token)

    def step(self, executor: Any) -> None:
        """Raises `Ended` or `NoPlace`."""
        if self.ended.is_set():
            raise Ended
        for operator in executor._topology:
            for pool in operator.get_autoscaling_actor_pools():
                self._check(pool.get_actor_info(), operator.metrics.num_outputs_taken)

    def _check(self, actors: Any, num_outputs: int) -> None:
        if actors.running:
            self.started.set()
        # Ray hands the work of an actor that restarts to no other, so the shard waits with it.
        waits = not actors.running or (actors.restarting and actors.tasks_in_flight)
        progress = (num_outputs, actors.running, actors.restarting)
        now_s = time.monotonic()
        if not waits or progress != self._progress:
            self._progress, self._progress_s = progress, now_s
        elif now_s - self._progress_s > self._start_timeout_s:
            raise NoPlace(
                f"{self._purpose}: an actor found no place in {self._start_timeout_s:g} s: "
                + no_place(self._num_cpus, self._num_gpus)
            )


class Step(ExecutionCallback):
    """What a `DataContext` lists; Ray Data makes one for each execution, in the thread of it.

    The context travels to workers and a watch can't, so a step finds its watch by the thread.
    """

    def __init__(self) -> None:
        self._watch = _WATCH.get()

    def on_execution_step(self, executor: Any) -> None:
        if self._watch is not None:
            self._watch.step(executor)


_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)
