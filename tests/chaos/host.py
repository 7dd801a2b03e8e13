"""The machine that the memory runs on: its process dies, starts again, and finds its storage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from diet_ray.data.schema import Schema
from diet_ray.errors import DietError, DistilledSetError
from diet_ray.memory.repair import repair_memory
from diet_ray.memory.store import MemoryStore, read_identity
from diet_ray.memory.verification import verify_memory
from diet_ray.storage import Folder
from tests.chaos.disk import Disk
from tests.chaos.faults import Crash, DriverDied, Violation
from tests.chaos.filesystem import FaultyStore
from tests.chaos.ledger import Ledger
from tests.chaos.schedule import Schedule


class MemoryDied(Exception):
    """The memory's process died during a call, and another one is up."""


@dataclass
class Tally:
    """What befell a run."""

    memory_crashes: int = 0
    driver_deaths: int = 0
    storage_faults: int = 0
    clean_stops: int = 0
    repairs: int = 0
    messages_disturbed: int = 0
    acknowledged: int = 0


class Host:
    def __init__(
        self, folder: Path, schedule: Schedule, schema: Schema, ledger: Ledger, tally: Tally
    ) -> None:
        self._schedule = schedule
        self._schema = schema
        self._ledger = ledger
        self._tally = tally
        self._points = {(p.name, p.occurrence): p for p in schedule.crash_points}
        self._passed: Counter[str] = Counter()
        self._takes_driver = False
        self._store: MemoryStore | None = None
        root = folder / "storage"
        if schedule.storage.startswith("disk"):
            self.storage: Disk | FaultyStore = Disk(root, schedule.faults, schedule.seed)
            self.folder = self.seen = Folder.at(root / "memory")
        else:
            root.mkdir()
            name = "s3" if schedule.storage == "object store" else "hdfs"
            self.storage = FaultyStore(root, name, schedule.faults)
            self.folder = Folder(pafs.PyFileSystem(self.storage), "memory")
            # The same folder as somebody sees it to whom nothing happens.
            self.seen = Folder.at(root / "memory")

    def call(self, ask: Callable[[MemoryStore], Any]) -> Any:
        """One call of the memory. Raises `MemoryDied`, or `DriverDied` if the driver went too."""
        try:
            return ask(self._opened())
        except Crash:
            self._died()
            raise MemoryDied from None

    def _opened(self) -> MemoryStore:
        if self._store is None:
            self._store = MemoryStore(
                self.folder, self._schema, retention=2, on_crash_point=self._on_crash_point
            )
            self._ledger.check(self._store.position)
        return self._store

    def _on_crash_point(self, name: str) -> None:
        self._passed[name] += 1
        point = self._points.get((name, self._passed[name]))
        if point is not None:
            self._takes_driver = point.takes_driver
            self.storage.dead = True
            raise Crash

    def _died(self) -> None:
        self._tally.memory_crashes += 1
        self._end_process()
        takes_driver, self._takes_driver = self._takes_driver, False
        if isinstance(self.storage, Disk) and self._schedule.storage == "disk, power loss":
            self.storage.lose_power()
        self.storage.dead = False
        self.look()
        if takes_driver:
            raise DriverDied

    def _end_process(self) -> None:
        if self._store is not None:
            with suppress(Crash):
                self._store.close()
            self._store = None

    def stopped(self) -> None:
        """The run has ended with an error; a person mends what it named."""
        self._tally.clean_stops += 1
        self._end_process()
        self.storage.mend()
        self.look()

    def look(self) -> None:
        """A reader's view, and what it may never be."""
        if not self.storage.has_lied:
            self._ledger.check_readers(self.seen)

    def repair(self, error: DietError) -> None:
        """A person goes back to the last good stage, because the memory refuses itself."""
        if not self.storage.has_lied:
            raise Violation(f"refused although the storage never lied: {error}")
        try:
            read_identity(self.seen)
            if not verify_memory(self.seen, self._schema).problems:
                return
        except DistilledSetError:
            pass
        try:
            repaired = repair_memory(self.seen, self._schema)
            self._ledger.forgive(repaired.last_good)
        except DistilledSetError:
            # No good stage: the same as to begin anew.
            self.seen.delete("stages")
            self.seen.delete("log")
            self._ledger.forgive(None)
        self._tally.repairs += 1
