"""One schedule with real processes on a local cluster, against the undisturbed run."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diet_ray.memory.store import MemoryStore
from diet_ray.memory.update import Ack, Position
from diet_ray.memory.verification import verify_memory
from diet_ray.storage import Folder
from tests.chaos.faults import Violation
from tests.chaos.ledger import Ledger
from tests.chaos.nodes import VICTIMS, Nodes, Victim
from tests.chaos.workload import NUM_STAGES, STEPS, WORKLOADS, reference, without_clock

ROOT = Path(__file__).parents[2]
SILENCE_S = 300.0
"""A driver that says nothing for so long hangs."""
MAX_DRIVERS = 12


@dataclass(frozen=True, kw_only=True)
class Kill:
    stage: int
    step: str
    victim: Victim
    delay_s: float | None
    """After the driver has gone on from the step; None: while it stands there."""


@dataclass(frozen=True, kw_only=True)
class ClusterSchedule:
    seed: int
    workload: str
    kills: tuple[Kill, ...]

    @classmethod
    def of(cls, seed: int) -> ClusterSchedule:
        """Victims and steps take turns, so that forty schedules pair each with each."""
        draw = np.random.default_rng([seed, 3])
        pairs = [(v, s) for s in STEPS for v in VICTIMS]
        kills = [
            Kill(
                stage=int(draw.integers(NUM_STAGES)),
                step=pairs[(seed + 11 * i) % len(pairs)][1],
                victim=pairs[(seed + 11 * i) % len(pairs)][0],
                delay_s=None if draw.random() < 0.5 else float(draw.uniform(0, 0.15)),
            )
            for i in range(int(draw.integers(1, 4)))
        ]
        # The whole cluster is dear to start again: once a schedule.
        first = next((k for k in kills if k.victim == "all"), None)
        kills = [k for k in kills if k.victim != "all" or k is first]
        workload = "distillation" if draw.random() < 0.7 else "distillation, refined"
        return cls(seed=seed, workload=workload, kills=tuple(kills))


@dataclass
class ClusterTally:
    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VICTIMS, 0))
    drivers: int = 0
    clean_stops: int = 0
    acknowledged: int = 0


class DriverProcess:
    """A process that runs `cluster_driver`, and what it says. It waits for its task."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        environment["RAY_AUTH_MODE"] = "disabled"
        environment.pop("RAY_ADDRESS", None)
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.cluster_driver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def begin(self, address: str, folder: Path, schedule: ClusterSchedule, name: str) -> None:
        task = [address, str(folder / "log"), str(folder / "memory"), schedule.workload, name]
        self._tell(json.dumps(task))

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def said(self) -> Iterator[dict[str, Any]]:
        """What it says, until it has ended. Raises `Violation` if it hangs."""
        while True:
            try:
                line = self._lines.get(timeout=SILENCE_S)
            except queue.Empty:
                raise Violation(f"the driver hangs: {self.errors()}") from None
            if line is None:
                return
            if line.startswith("{"):
                yield json.loads(line)

    def go_on(self) -> None:
        self._tell("")

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def kill(self) -> None:
        self._process.kill()

    def ended(self) -> int:
        return self._process.wait(timeout=SILENCE_S)

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-3000:]


class Drivers:
    """The next driver's process starts while the one before works."""

    def __init__(self) -> None:
        self._next = DriverProcess()

    def take(self) -> DriverProcess:
        taken, self._next = self._next, DriverProcess()
        return taken

    def close(self) -> None:
        self._next.kill()


def run_cluster_schedule(
    schedule: ClusterSchedule, folder: Path, nodes: Nodes, drivers: Drivers
) -> ClusterTally:
    """Raises `Violation` if a promise is broken. `folder` is empty."""
    tally = ClusterTally()
    expected = reference(schedule.workload)
    ledger = Ledger(expected.slots)
    memory = Folder.at(folder / "memory")
    pending = list(schedule.kills)
    is_done = False
    while not is_done:
        tally.drivers += 1
        if tally.drivers > MAX_DRIVERS:
            raise Violation(f"{MAX_DRIVERS} drivers didn't get to the end")
        driver = drivers.take()
        driver.begin(nodes.address(), folder, schedule, f"driver-{tally.drivers}")
        is_killed = False
        try:
            for event in driver.said():
                match event.pop("what"):
                    case "begun":
                        ledger.begun(Position(**event))
                    case "acknowledged":
                        is_commit = event.pop("is_commit")
                        ledger.acknowledged(Ack(**event), is_commit=is_commit)
                    case "stopped":
                        if "acknowledged" in event["error"] or "was lost" in event["error"]:
                            raise Violation(event["error"])
                        tally.clean_stops += 1
                    case "done":
                        is_done = True
                    case "step":
                        is_killed |= _at_step(event, pending, driver, nodes, tally)
                        ledger.check_readers(memory)
            code = driver.ended()
        finally:
            driver.kill()
        if code not in (0, -9) or (code == -9 and not is_killed):
            if "all" not in [k.victim for k in schedule.kills]:
                raise Violation(f"the driver ended with {code}: {driver.errors()}")
            # Without its cluster a driver may end in any way.
            tally.clean_stops += 1
    tally.acknowledged = ledger.num_acknowledged
    _check_end(memory, schedule, tally, ledger)
    return tally


def _at_step(
    event: dict[str, Any],
    pending: list[Kill],
    driver: DriverProcess,
    nodes: Nodes,
    tally: ClusterTally,
) -> bool:
    """Kills what the schedule says; whether the driver is among it."""
    due = [k for k in pending if (k.stage, k.step) == (event["stage"], event["step"])]
    gone = False
    has_gone_on = False
    for kill in due:
        pending.remove(kill)
        if kill.delay_s is not None:
            if not has_gone_on:
                driver.go_on()
                has_gone_on = True
            time.sleep(kill.delay_s)
        if kill.victim in ("driver", "all"):
            driver.kill()
            gone = True
        found = kill.victim == "driver" or nodes.kill(kill.victim)
        tally.kills[kill.victim] += found
    if not has_gone_on and not gone:
        driver.go_on()
    return gone


def _check_end(
    memory: Folder, schedule: ClusterSchedule, tally: ClusterTally, ledger: Ledger
) -> None:
    expected = reference(schedule.workload)
    schema = WORKLOADS[schedule.workload].schema
    ledger.check_readers(memory)
    problems = verify_memory(memory, schema).problems
    if problems:
        raise Violation(f"verification finds: {problems}")
    store = MemoryStore(memory, schema, lock_timeout_s=30)
    try:
        if not store.slots().equals(expected.slots[NUM_STAGES - 1]):
            raise Violation("the slots differ from the undisturbed run's")
        last = store.last_commit()
        if last is None or without_clock(last[1]) != expected.state:
            raise Violation("the driver's state differs from the undisturbed run's")
    finally:
        store.close()
