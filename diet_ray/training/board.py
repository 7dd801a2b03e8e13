"""Who runs what: hands runs to workers and their outcomes to the driver.

Runs are numbers and outcomes plain dicts, and nothing heavy is imported, so that the process of
the actor that this becomes starts at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


class RunBoard:
    """Runs 0 to `num_runs` - 1, handed out in this order."""

    def __init__(self, num_runs: int) -> None:
        self._pending = deque(range(num_runs))
        self._running: dict[int, int] = {}
        self._outcomes: asyncio.Queue[tuple[int, dict[str, Any]] | None] = asyncio.Queue()

    async def take(self, worker: int) -> int | None:
        """The next run; None when all are handed out."""
        if not self._pending:
            return None
        self._running[worker] = self._pending.popleft()
        return self._running[worker]

    async def deliver(self, worker: int, outcome: dict[str, Any]) -> None:
        """The outcome of the run that `worker` took last."""
        await self._outcomes.put((self._running.pop(worker), outcome))

    async def next_outcome(self) -> tuple[int, dict[str, Any]] | None:
        """Waits for a run's outcome; None after `close`, once all are passed on."""
        return await self._outcomes.get()

    async def close(self) -> None:
        await self._outcomes.put(None)

    async def running(self) -> dict[int, int]:
        """Worker -> the run that it is at."""
        return dict(self._running)


class TrainBoard:
    """Passes the messages of one run's workers on to the driver, and keeps what made it fail.

    A worker that is started again asks for the failure first: what failed by itself, and not by the
    death of another, would fail again.
    """

    def __init__(self) -> None:
        self._messages: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._failure: tuple[str, str] | None = None

    async def put(self, message: dict[str, Any]) -> None:
        await self._messages.put(message)

    async def next_message(self) -> dict[str, Any] | None:
        """Waits for a message; None after `close`, once all are passed on."""
        return await self._messages.get()

    async def fail(self, kind: str, text: str) -> None:
        """The name of an error's class, and its text; the first one counts."""
        self._failure = self._failure or (kind, text)

    async def failure(self) -> tuple[str, str] | None:
        return self._failure

    async def close(self) -> None:
        await self._messages.put(None)
