"""Refusing rows that aren't in time order, with the file and row at fault."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from diet_ray.data.rows import TIMESTAMP
from diet_ray.data.sources.base import RawShard
from diet_ray.errors import DataError


def check_order(
    tables: Iterable[pa.Table], shards: Sequence[RawShard], last_us: int | None
) -> Iterator[pa.Table]:
    """Passes tables on while their timestamps don't decrease.

    `shards` say where the rows come from; empty after sorting. `last_us` is the timestamp of the
    last row of the log that they are appended to, if there is one. Raises `DataError` naming file
    and row.
    """
    starts = np.cumsum([0, *(s.num_rows for s in shards)]).tolist()
    position = 0
    previous_us = last_us
    for table in tables:
        timestamps = table[TIMESTAMP].to_numpy()
        if not len(timestamps):
            continue
        before = timestamps[0] if previous_us is None else previous_us
        falls = np.flatnonzero(np.diff(timestamps, prepend=before) < 0)
        if len(falls):
            index = int(falls[0])
            row = position + index
            where = "the earliest of the new rows"
            if shards:
                place = bisect.bisect_right(starts, row) - 1
                shard = shards[place]
                where = f"{shard.file}: row {shard.first_row + row - starts[place] + 1}"
            now = _text(int(timestamps[index]))
            if row == 0:
                raise DataError(
                    f"{where}: {now} is older than the log's last row ({_text(before)}); only "
                    "later rows can be appended, to add earlier ones prepare the log again"
                )
            earlier = _text(int(timestamps[index - 1] if index else before))
            raise DataError(
                f"{where}: {now} comes after {earlier}: rows aren't in time order; sort the log or "
                "set `sort: true`"
            )
        yield table
        previous_us = int(timestamps[-1])
        position += len(timestamps)


def _text(timestamp_us: int) -> str:
    return str((datetime(1970, 1, 1) + timedelta(microseconds=timestamp_us)).replace(tzinfo=UTC))
