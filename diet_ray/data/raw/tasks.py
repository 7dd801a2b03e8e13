"""Running independent tasks: in this process, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from diet_ray.errors import ClusterError, DietError

T = TypeVar("T")


class Tasks(Protocol):
    def map(
        self, function: Callable[..., T], shared: Any, arguments: Sequence[tuple[Any, ...]]
    ) -> Iterator[T]:
        """Results of `function(shared, *a)` for all arguments, in whatever order they end.

        Raises the first `DietError` that a task raises; the other tasks are given up.
        """


class InProcess:
    def map(
        self, function: Callable[..., T], shared: Any, arguments: Sequence[tuple[Any, ...]]
    ) -> Iterator[T]:
        for a in arguments:
            yield function(shared, *a)


class Processes:
    """Processes of this machine."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def map(
        self, function: Callable[..., T], shared: Any, arguments: Sequence[tuple[Any, ...]]
    ) -> Iterator[T]:
        try:
            futures = [self._pool.submit(function, shared, *a) for a in arguments]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise ClusterError(
                "a worker process was killed, probably for lack of memory; use fewer --workers"
            ) from None


class RayTasks:
    """Tasks on the Ray cluster that this process is connected to."""

    def map(
        self, function: Callable[..., T], shared: Any, arguments: Sequence[tuple[Any, ...]]
    ) -> Iterator[T]:
        import ray
        from ray.exceptions import RayTaskError

        common = ray.put(shared)
        task = ray.remote(num_cpus=1)(function)
        waiting = list(reversed(arguments))
        running: list[Any] = []
        limit = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        try:
            while waiting or running:
                while waiting and len(running) < limit:
                    running.append(task.remote(common, *waiting.pop()))
                done, running = ray.wait(running)
                for reference in done:
                    yield ray.get(reference)
        except RayTaskError as e:
            if isinstance(e.cause, DietError):
                raise e.cause from None
            raise
        finally:
            for reference in running:
                ray.cancel(reference, force=True)


@contextmanager
def local_tasks(num_workers: int | None) -> Iterator[Tasks]:
    """For this machine; by default a process a CPU. What still runs at the end is stopped."""
    num_workers = num_workers or len(os.sched_getaffinity(0))
    if num_workers == 1:
        yield InProcess()
        return
    # Forking would copy the locks of Arrow's threads.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, context, initializer=_single_threaded)
    try:
        yield Processes(pool)
    finally:
        # A task may take seconds; what interrupts us doesn't wait for it.
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _single_threaded() -> None:
    import pyarrow as pa

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
