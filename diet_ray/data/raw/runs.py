"""The first pass: a part of the raw log becomes runs, files of cleaned rows in time order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from diet_ray.data.raw.clock import DAY_US, local_us
from diet_ray.data.raw.log import TIME, RawLog
from diet_ray.data.raw.negatives import first_occurrences

PART_SHIFT = 40
"""In a log without time, rows are ordered by (part << PART_SHIFT) + row of the part."""


RUN_ROWS = 524_288
"""Rows that are sorted at a time, at least, unless a part ends."""


@dataclass(frozen=True, kw_only=True)
class Run:
    path: str
    """Without suffix: `.arrow` holds the rows, `.times` their times as plain int64, `.items` the
    first occurrence of each item if negatives are to be drawn."""
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class PartRuns:
    """What became of one part."""

    part: int
    runs: tuple[Run, ...]
    """Of equal instants, rows of an earlier run come first."""
    num_read: int
    dropped: dict[str, int]
    rows_of_day: dict[int, int]
    """Rows by local day, counted from 1970-01-01; in a log without time by part."""


def write_runs(log: RawLog, part: int, scratch: str) -> PartRuns:
    """Reads, cleans and sorts one part."""
    runs: list[Run] = []
    dropped: Counter[str] = Counter()
    rows_of_day: Counter[int] = Counter()
    num_read = num_kept = 0
    waiting: list[pa.Table] = []
    num_waiting = 0

    def write() -> None:
        nonlocal waiting, num_waiting, num_kept
        rows = pa.concat_tables(waiting).unify_dictionaries().combine_chunks()
        waiting, num_waiting = [], 0
        if log.has_time:
            rows, times = _sorted(rows)
            days, counts = np.unique(_days(times, log), return_counts=True)
            rows_of_day.update(dict(zip(days.tolist(), counts.tolist(), strict=True)))
        else:
            first = (part << PART_SHIFT) + num_kept
            times = np.arange(first, first + rows.num_rows)
            rows_of_day[part] += rows.num_rows
        num_kept += rows.num_rows
        path = str(Path(scratch) / f"{part:06d}-{len(runs):04d}")
        _write(rows, times, path, log)
        runs.append(Run(path=path, num_rows=rows.num_rows))

    for raw in log.parts[part].read():
        num_read += raw.num_rows
        rows, why = log.clean(raw)
        dropped.update(why)
        waiting.append(rows)
        num_waiting += rows.num_rows
        if num_waiting >= RUN_ROWS:
            write()
    if num_waiting:
        write()
    return PartRuns(
        part=part,
        runs=tuple(runs),
        num_read=num_read,
        dropped=dict(dropped),
        rows_of_day=dict(rows_of_day),
    )


def _sorted(rows: pa.Table) -> tuple[pa.Table, np.ndarray]:
    times = rows[TIME].to_numpy()
    if (times[1:] >= times[:-1]).all():
        return rows, times
    order = np.argsort(times, kind="stable")
    return rows.take(pa.array(order)), times[order]


def _days(times: np.ndarray, log: RawLog) -> np.ndarray:
    return local_us(times, log.schema.timestamp.timezone) // DAY_US


def _write(rows: pa.Table, times: np.ndarray, path: str, log: RawLog) -> None:
    if log.negatives is not None:
        columns = [TIME, log.negatives.item, *log.negatives.attributes]
        _write_table(first_occurrences(rows.select(columns), log.negatives.item), f"{path}.items")
    times.astype(np.int64).tofile(f"{path}.times")
    names = [name for name in rows.column_names if name != TIME]
    _write_table(rows.select(names), f"{path}.arrow")


def _write_table(table: pa.Table, path: str) -> None:
    # One batch, so that any range of its rows is a slice of one array.
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table.combine_chunks())
