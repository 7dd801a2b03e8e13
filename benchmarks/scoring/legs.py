"""Legs of a measurement: each in a process of its own, with a Ray session of its own.

So nothing of one leg, neither memory nor a warm worker, is left for the next.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import ray

from diet_ray.cluster import connect

OBJECT_STORE_BYTES = 1024**3
T = TypeVar("T")


def in_child(function: Callable[..., T], *arguments: Any) -> T:
    """What the function returns in a new process. Exits naming the function if that fails."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        result: T = receiver.recv()
    except EOFError:
        raise SystemExit(f"{function.__name__}{arguments}: failed, see above") from None
    finally:
        process.join()
    return result


def _run(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    sender.send(function(*arguments))


@contextmanager
def ray_folder() -> Iterator[None]:
    """Ray sessions that start in the block keep their files in a temporary folder, and don't join
    a cluster that is there already."""
    os.environ.pop("RAY_ADDRESS", None)
    # Short, as the paths of sockets must be.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        os.environ["RAY_TMPDIR"] = folder
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def ray_session(num_cpus: int) -> Iterator[None]:
    """A local cluster."""
    with ray_folder():
        connect(num_cpus=num_cpus, object_store_bytes=OBJECT_STORE_BYTES, include_dashboard=False)
        yield
