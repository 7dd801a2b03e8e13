"""Memory and CPU time of a process and all its descendants, and which cores they may use."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SAMPLE_EVERY_S = 0.5


def descendants(root: int) -> list[int]:
    """`root` and every process below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = [], [root]
    while queue:
        found.append(queue.pop())
        queue += children.get(found[-1], [])
    return found


def pss_bytes(process: int) -> int:
    """Proportional set size; 0 for a process that has just ended."""
    try:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def cpu_s(process: int) -> float:
    """CPU seconds of all its threads so far; 0 for a process that has just ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class PeakMemory:
    """Samples the sum over a process and its descendants in a thread of its own.

    `part` says which part of the work is going on.
    """

    def __init__(self, part: Callable[[], str]) -> None:
        self._part = part
        self.part_peak_bytes: dict[str, int] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _sample(self) -> None:
        root = os.getpid()
        while not self._stopped.wait(SAMPLE_EVERY_S):
            total = sum(pss_bytes(p) for p in descendants(root))
            part = self._part()
            self.part_peak_bytes[part] = max(self.part_peak_bytes.get(part, 0), total)


class CpuClock:
    """Samples CPU seconds of this process and all its descendants, the ended ones included."""

    def __init__(self) -> None:
        self._seen_s: dict[int, float] = {}
        self._at_s: list[float] = []
        self._total_s: list[float] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> CpuClock:
        self._add()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._add()

    def between(self, begin_s: float, end_s: float) -> float:
        """CPU seconds between two moments of `time.time`, both within the block."""
        begin, end = np.interp([begin_s, end_s], self._at_s, self._total_s)
        return float(end - begin)

    def _sample(self) -> None:
        while not self._stopped.wait(2 * SAMPLE_EVERY_S):
            self._add()

    def _add(self) -> None:
        for process in descendants(os.getpid()):
            self._seen_s[process] = max(self._seen_s.get(process, 0.0), cpu_s(process))
        self._at_s.append(time.time())
        self._total_s.append(sum(self._seen_s.values()))


def use_cores(num_cores: int) -> None:
    """Binds this process, and all that it starts from now on, to its first cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:num_cores])
