"""Many schedules, one after the other: `python -m tests.chaos --schedules 500 --on-clusters 40`.

Prints each schedule's seed as it begins, and at the end one object of JSON. A schedule that broke a
promise is replayed by `--replay SEED`, with `--on-clusters 1` if it was one with real processes.
"""

from __future__ import annotations

import os

# One thread a process: results are bit-identical only at a fixed thread count.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.chaos.cluster import ClusterSchedule, Drivers, run_cluster_schedule
from tests.chaos.in_process import run_schedule
from tests.chaos.nodes import Nodes
from tests.chaos.schedule import Schedule


class Report:
    """Counts over all schedules of a kind."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begin_s = time.perf_counter()
        self.num_run = 0
        self.failed: list[int] = []
        self.totals: Counter[str] = Counter()

    def run(self, seed: int, one: Callable[[Path], Any]) -> None:
        print(f"{self._name}: seed {seed}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                tally = one(Path(folder))
            except Exception:
                self.failed.append(seed)
                traceback.print_exc()
            else:
                for key, value in vars(tally).items():
                    self.totals.update(value if isinstance(value, dict) else {key: value})
        self.num_run += 1

    def to_json(self) -> dict[str, Any]:
        return {
            "schedules": self.num_run,
            "failed_seeds": self.failed,
            "seconds": round(time.perf_counter() - self._begin_s, 1),
            **self.totals,
        }


def in_process(seeds: Sequence[int]) -> dict[str, Any]:
    report = Report("in one process")
    for seed in seeds:
        schedule = Schedule.of(seed)
        report.run(seed, lambda folder, schedule=schedule: run_schedule(schedule, folder))
    return report.to_json()


def on_clusters(seeds: Sequence[int]) -> dict[str, Any]:
    report = Report("on a cluster")
    nodes, drivers = Nodes(), Drivers()
    try:
        for seed in seeds:
            schedule = ClusterSchedule.of(seed)
            report.run(
                seed,
                lambda folder, schedule=schedule: run_cluster_schedule(
                    schedule, folder, nodes, drivers
                ),
            )
            if seed in report.failed:
                # What a failure has left may not be what the next schedule begins with.
                nodes.close()
    finally:
        drivers.close()
        nodes.close()
    return report.to_json()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--schedules", type=int, default=500, help="in all")
    parser.add_argument("--on-clusters", type=int, default=40, help="of them with real processes")
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule of each kind")
    parser.add_argument("--replay", type=int, help="one schedule alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    first, num_on_clusters = arguments.seed, arguments.on_clusters
    num_in_process = arguments.schedules - num_on_clusters
    if arguments.replay is not None:
        first = arguments.replay
        num_on_clusters = min(num_on_clusters, 1) if arguments.on_clusters != 40 else 0
        num_in_process = 1 - num_on_clusters
        kind = ClusterSchedule if num_on_clusters else Schedule
        print(kind.of(first), file=sys.stderr)
    found: dict[str, Any] = {}
    if num_in_process:
        found["in_process"] = in_process(range(first, first + num_in_process))
    if num_on_clusters:
        found["on_clusters"] = on_clusters(range(first, first + num_on_clusters))
    found["load_average"] = round(os.getloadavg()[2], 1)
    print(json.dumps(found, indent=1))
    return any(part["failed_seeds"] for part in found.values() if isinstance(part, dict))


if __name__ == "__main__":
    sys.exit(main())
