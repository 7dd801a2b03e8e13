"""What a scorer does to its process, and which shards it works on at the same time."""

from __future__ import annotations

import platform
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from diet_ray.data.log import Shard
from diet_ray.influence import scorer
from diet_ray.influence.attempts import Attempts
from diet_ray.influence.scorer import Job, Scorer
from tests.influence.small_log import small_log

# malloc_info writes a `<heap nr=…>` for every heap.
PROGRAM = """
import ctypes, os, tempfile, threading
import numpy as np
from diet_ray.influence.scorer import share_one_heap

libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]

def num_heaps():
    with tempfile.TemporaryFile() as file:
        stream = libc.fdopen(os.dup(file.fileno()), b"w")
        libc.malloc_info(0, stream)
        libc.fclose(stream)
        file.seek(0)
        return file.read().count(b"<heap nr=")

def grown():
    before = num_heaps()
    together = threading.Barrier(8)
    def allocate():
        together.wait()
        np.ones(1000)
        together.wait()
    threads = [threading.Thread(target=allocate) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return num_heaps() - before

if {shared}:
    share_one_heap()
print(grown())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_threads_share_one_heap() -> None:
    def grown(shared: bool) -> int:
        program = PROGRAM.replace("{shared}", str(shared))
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert grown(False) > 0
    assert grown(True) == 0


class Here:
    """An actor in this process, called as a remote one is."""

    def __init__(self, actor: object) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._actor, name))


def begins_beside(num_deaths: int, monkeypatch: pytest.MonkeyPatch, timeout_s: float) -> bool:
    """Whether one shard begins while another one, that has killed scorers, is worked on."""
    monkeypatch.setattr(scorer, "ray", SimpleNamespace(get=lambda value: value))
    monkeypatch.setattr(scorer, "share_one_heap", lambda: None)
    attempts = Attempts()
    for _ in range(num_deaths):
        attempts.begin(0)
    other_began = threading.Event()
    threads = []
    found = []

    def task(shard: Shard) -> bytes:
        if shard.index == 1:
            other_began.set()
        else:
            threads.append(threading.Thread(target=scored, args=(1,)))
            threads[0].start()
            found.append(other_began.wait(timeout_s))
        return b""

    job = Job(
        make_task=lambda: task,
        attempts=Here(attempts),
        shards=small_log(((4, 4),)).stages[0].shards,
        shards_in_flight=2,
    )
    scoring = Scorer(job)  # type: ignore[arg-type]

    def scored(shard: int) -> pa.Table:
        return scoring(pa.table({"shard": [shard]}))

    assert scored(0)["error"].to_pylist() == [None]
    threads[0].join(timeout=30)
    assert other_began.is_set(), "once the first one is done"
    return found[0]


def test_a_shard_that_has_killed_a_scorer_is_worked_on_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert begins_beside(0, monkeypatch, timeout_s=30)
    assert not begins_beside(1, monkeypatch, timeout_s=0.5)
