"""Rows that aren't in time order, or lie in the future: refused by file and row, or left out."""

from __future__ import annotations

import bisect
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from diet_ray.data.intake import Dropped, IntakeConfig
from diet_ray.data.rows import TIMESTAMP
from diet_ray.data.sources.base import RawShard
from diet_ray.errors import DataError

_DEFAULT = IntakeConfig()


def check_order(
    tables: Iterable[pa.Table],
    shards: Sequence[RawShard],
    last_us: int | None,
    config: IntakeConfig = _DEFAULT,
    dropped: Dropped | None = None,
) -> Iterator[pa.Table]:
    """Passes tables on while their timestamps don't decrease, nor run ahead of the clock.

    `shards` say where the rows come from; empty after sorting. `last_us` is the timestamp of the
    last row of the log that they are appended to, if there is one. Raises `DataError` naming file
    and row; where `config` allows it, such rows are counted in `dropped` instead, which is checked
    at the end.
    """
    found = Dropped() if dropped is None else dropped
    places = _Places(shards)
    limit_us = np.iinfo(np.int64).max
    if config.max_ahead_s is not None:
        limit_us = int(min((time.time() + config.max_ahead_s) * 1e6, float(limit_us // 2)))
    previous_us = last_us
    for table in tables:
        timestamps = table[TIMESTAMP].to_numpy()
        if not len(timestamps):
            continue
        is_ahead = timestamps > limit_us
        # Rows that are ahead don't say what time it is.
        is_known = previous_us is not None or not is_ahead.all()
        before = timestamps[int(is_ahead.argmin())] if previous_us is None else previous_us
        # The latest time up to each row, of those that aren't ahead.
        latest = np.maximum.accumulate(np.where(is_ahead, before, timestamps).clip(before))
        is_late = timestamps < latest
        for wrong, describe in ((is_ahead, _ahead), (is_late, _late)):
            if wrong.any():
                index = int(wrong.argmax())
                row = found.num_rows + index
                where, when = places.text(row), int(timestamps[index])
                if not config.max_dropped_share:
                    raise DataError(describe(where, when, int(latest[index]), row == 0))
                found.examples.append(f"{where}: {text_of(when)}")
        found.num_rows += len(timestamps)
        found.num_ahead += int(is_ahead.sum())
        found.num_late += int(is_late.sum())
        if is_known:
            previous_us = int(latest[-1])
        kept = ~(is_ahead | is_late)
        yield table if kept.all() else table.filter(pa.array(kept))
    found.check(config)


class _Places:
    """Where a row stands, by its number among all."""

    def __init__(self, shards: Sequence[RawShard]) -> None:
        self._shards = shards
        self._starts = np.cumsum([0, *(s.num_rows for s in shards)]).tolist()

    def text(self, row: int) -> str:
        if not self._shards:
            return "one of the new rows" if row else "the earliest of the new rows"
        place = min(bisect.bisect_right(self._starts, row), len(self._shards)) - 1
        shard = self._shards[place]
        return f"{shard.file}: row {shard.first_row + row - self._starts[place] + 1}"


def _late(where: str, timestamp_us: int, latest_us: int, is_first: bool) -> str:
    now, latest = text_of(timestamp_us), text_of(latest_us)
    if is_first:
        return (
            f"{where}: {now} is older than the log's last row ({latest}); only later rows can be "
            "appended: if these were added before, there is nothing to do; to add earlier ones "
            "prepare the log again"
        )
    return (
        f"{where}: {now} comes after {latest}: rows aren't in time order; sort the log or set "
        "`sort: true`, or let `intake: max_dropped_share` of them be left out"
    )


def _ahead(where: str, timestamp_us: int, latest_us: int, is_first: bool) -> str:
    return (
        f"{where}: {text_of(timestamp_us)} lies in the future of this machine's clock: one of the "
        "two clocks is wrong, or the timestamp's `unit`; mend it, or see `intake: max_ahead_s`"
    )


def text_of(timestamp_us: int) -> str:
    """A time in UTC as a person reads it."""
    return str((datetime(1970, 1, 1) + timedelta(microseconds=timestamp_us)).replace(tzinfo=UTC))
