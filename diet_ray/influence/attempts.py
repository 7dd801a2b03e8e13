"""How often a shard has killed its scorer: one that always does must end as an error."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from diet_ray.cluster import this_node

MAX_ATTEMPTS = 3
"""Deaths on one shard until it's given up: a lost node or two must not count as a bad shard."""


class Attempts:
    """Counts the attempts at a shard that didn't end. Runs as an actor of its own."""

    def __init__(self) -> None:
        self._open: Counter[int] = Counter()

    @classmethod
    def start(cls) -> Any:
        """A handle to a new count, which lives as long as the caller's node."""
        return ray.remote(num_cpus=0, label_selector=this_node())(cls).remote()

    def num_open(self, shard: int) -> int:
        """Whoever made them is dead, if the shard is given out again."""
        return self._open[shard]

    def begin(self, shard: int) -> None:
        self._open[shard] += 1

    def end(self, shard: int) -> None:
        self._open.pop(shard, None)


class Seats:
    """Places for the shards that one process works on at the same time."""

    def __init__(self, num_seats: int) -> None:
        self._num_seats = num_seats
        self._num_free = num_seats
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, *, alone: bool) -> Iterator[None]:
        """Waits for a seat, or for all of them."""
        num_taken = self._num_seats if alone else 1
        with self._changed:
            self._changed.wait_for(lambda: self._num_free >= num_taken)
            self._num_free -= num_taken
        try:
            yield
        finally:
            with self._changed:
                self._num_free += num_taken
                self._changed.notify_all()
