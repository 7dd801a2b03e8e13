"""Between driver and memory: calls that get lost, arrive twice, late, or without an answer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa

from diet_ray.data.schema import Schema
from diet_ray.errors import DietError
from diet_ray.memory.slots import slot_schema
from diet_ray.memory.store import MemoryStore
from diet_ray.memory.update import Ack, Commit, Position, Update
from tests.chaos.faults import DriverDied
from tests.chaos.host import Host, MemoryDied, Tally
from tests.chaos.ledger import Ledger
from tests.chaos.schedule import FATES, Schedule

Call = Callable[[MemoryStore], Any]
MAX_TRIES = 50


class Channel:
    """What a driver takes for the memory. It sends a call until it has an answer, one at a time."""

    def __init__(
        self, host: Host, schedule: Schedule, schema: Schema, ledger: Ledger, tally: Tally
    ) -> None:
        self._host = host
        self._ledger = ledger
        self._tally = tally
        self._layout = slot_schema(schema)
        self._fates = schedule.fates
        self._draw = np.random.default_rng([schedule.seed, 2])
        self._delayed: list[Call] = []
        """Copies that are still on their way, whatever became of their driver."""

    def begin(self, driver: str) -> Position:
        position: Position = self._send(lambda store: store.begin(driver))
        self._ledger.begun(position)
        return position

    def apply(self, update: Update) -> Ack:
        payload = update.to_bytes(self._layout)
        ack: Ack = self._send(lambda store: store.apply_bytes(payload))
        self._ledger.acknowledged(ack, is_commit=False)
        return ack

    def commit(self, commit: Commit) -> Ack:
        payload = commit.to_bytes()
        ack: Ack = self._send(lambda store: store.commit_bytes(payload))
        self._ledger.acknowledged(ack, is_commit=True)
        self._host.look()
        return ack

    def slots(self) -> pa.Table:
        return self._send(lambda store: store.slots())

    def last_commit(self) -> tuple[int, dict[str, bytes]] | None:
        return self._send(lambda store: store.last_commit())

    def _send(self, call: Call) -> Any:
        for _ in range(MAX_TRIES):
            if self._delayed and self._draw.random() < 0.3:
                self._deliver_unasked(self._delayed.pop(0))
            fate = FATES[int(self._draw.choice(len(FATES), p=self._fates))]
            self._tally.messages_disturbed += fate != "delivered"
            if fate == "dropped":
                continue
            if fate == "delayed duplicate":
                self._delayed.append(call)
            try:
                answer = self._host.call(call)
            except MemoryDied:
                continue
            except DriverDied:
                self._delayed.append(call)
                raise
            if fate == "duplicated":
                self._deliver_unasked(call)
            if fate != "answer lost":
                return answer
        raise AssertionError("a call found no answer")

    def _deliver_unasked(self, call: Call) -> None:
        """Nobody waits for the answer."""
        with suppress(MemoryDied, DietError):
            self._host.call(call)
