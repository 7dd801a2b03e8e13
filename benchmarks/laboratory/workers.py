"""Independent runs on a few local processes of one thread each."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

_shared: Any = None


def _start(shared: Any) -> None:
    global _shared
    _shared = shared
    torch.set_num_threads(1)


def _call(job: tuple[Callable[[Any, Any], Any], Any]) -> Any:
    function, item = job
    return function(_shared, item)


def run_all(
    function: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any], num_workers: int
) -> Iterator[Any]:
    """`function(shared, item)` for every item, in order; `shared` is inherited, not copied."""
    jobs = [(function, item) for item in items]
    if not jobs:
        return
    if num_workers == 1:
        _start(shared)
        yield from map(_call, jobs)
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("fork")
    with context.Pool(num_workers, _start, (shared,)) as pool:
        yield from pool.imap(_call, jobs)
