"""The second pass: rows of all runs, range of time by range of time, become a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diet_ray.data.raw.log import LABEL, TIME, RawLog
from diet_ray.data.raw.negatives import KnownItems, mix
from diet_ray.data.raw.runs import Run

SORT_ROWS = 524_288
"""Rows that are sorted in memory at a time, at most."""
ROW_GROUP_ROWS = 131_072


@dataclass(frozen=True, kw_only=True)
class LogFile:
    """A file to be written: all rows with start ≤ time < end."""

    name: str
    start: int
    end: int
    first_row: int
    """Cleaned rows of the log before it."""


@dataclass(frozen=True, kw_only=True)
class Written:
    name: str
    num_rows: int
    num_duplicates: int
    num_positive: int


def write_file(
    log: RawLog, file: LogFile, runs: tuple[Run, ...], items: str | None, folder: str
) -> Written:
    """Merges a file's rows, drops duplicates, draws negatives, finishes and writes them."""
    num_rows = num_duplicates = num_positive = 0
    row = file.first_row
    writer: pq.ParquetWriter | None = None
    with ExitStack() as stack:
        known = None
        if items is not None:
            source = stack.enter_context(pa.memory_map(items))
            known = KnownItems.of(pa.ipc.open_file(source).read_all())
        for rows in _in_order(runs, file.start, file.end):
            kept = _without_duplicates(rows) if log.drop_duplicates else rows
            num_duplicates += rows.num_rows - kept.num_rows
            first_row, row = row, row + rows.num_rows
            if not log.has_time:
                times = pa.array(np.arange(first_row, row))
                kept = kept.set_column(kept.column_names.index(TIME), TIME, times)
            if known is not None:
                assert log.negatives is not None
                kept = known.add_negatives(kept, first_row, log.negatives)
            finished = _with_time(log.finish(kept), kept, log)
            if writer is None:
                writer = stack.enter_context(
                    pq.ParquetWriter(
                        str(Path(folder) / file.name),
                        finished.schema,
                        compression="zstd",
                        compression_level=1,
                        use_dictionary=True,
                        write_statistics=[TIME],
                    )
                )
            writer.write_table(finished, row_group_size=ROW_GROUP_ROWS)
            num_rows += finished.num_rows
            num_positive += int(np.count_nonzero(finished[LABEL].to_numpy()))
    return Written(
        name=file.name,
        num_rows=num_rows,
        num_duplicates=num_duplicates,
        num_positive=num_positive,
    )


def _with_time(finished: pa.Table, rows: pa.Table, log: RawLog) -> pa.Table:
    times = rows[TIME].cast(pa.timestamp("us", "UTC")) if log.has_time else rows[TIME]
    columns = {TIME: times, LABEL: finished[LABEL]}
    columns |= {f.source_column: finished[f.source_column]
                for f in log.schema.fields if f.history_of is None}  # fmt: skip
    return pa.table(columns)


def _in_order(runs: Sequence[Run], start: int, end: int) -> Iterator[pa.Table]:
    """Rows with start ≤ time < end, sorted by (time, run, place in the run)."""
    times = [np.memmap(f"{r.path}.times", np.int64, "r") for r in runs]
    begins = np.array([np.searchsorted(t, start) for t in times], np.int64)
    ends = np.array([np.searchsorted(t, end) for t in times], np.int64)
    yield from _range_in_order(runs, times, begins, ends)


def _range_in_order(
    runs: Sequence[Run], times: list[np.memmap], begins: np.ndarray, ends: np.ndarray
) -> Iterator[pa.Table]:
    live = np.flatnonzero(ends > begins).tolist()
    if not live:
        return
    first = min(int(times[r][begins[r]]) for r in live)
    last = max(int(times[r][ends[r] - 1]) for r in live)
    if (ends - begins).sum() <= SORT_ROWS:
        yield _sorted(runs, times, begins, ends)
    elif first == last:
        # One instant: its rows are in order run by run.
        for r in live:
            for begin in range(int(begins[r]), int(ends[r]), SORT_ROWS):
                yield _slice(runs[r], times[r], begin, min(begin + SORT_ROWS, int(ends[r])))
    else:
        middle = first + (last - first) // 2 + 1
        middles = begins.copy()
        for r in live:
            middles[r] += np.searchsorted(times[r][begins[r] : ends[r]], middle)
        yield from _range_in_order(runs, times, begins, middles)
        yield from _range_in_order(runs, times, middles, ends)


def _sorted(
    runs: Sequence[Run], times: list[np.memmap], begins: np.ndarray, ends: np.ndarray
) -> pa.Table:
    live = np.flatnonzero(ends > begins).tolist()
    rows = pa.concat_tables(
        [_slice(runs[r], times[r], int(begins[r]), int(ends[r])) for r in live],
        promote_options="default",
    )
    order = np.argsort(rows[TIME].to_numpy(), kind="stable")
    return rows.unify_dictionaries().combine_chunks().take(pa.array(order))


def _slice(run: Run, times: np.memmap, begin: int, end: int) -> pa.Table:
    # Mapped anew each time, so that pages that were read don't stay in this process's memory.
    table = pa.ipc.open_file(pa.memory_map(f"{run.path}.arrow")).read_all()
    rows = table.slice(begin, end - begin)
    return rows.append_column(TIME, pa.array(np.array(times[begin:end])))


def _without_duplicates(rows: pa.Table) -> pa.Table:
    digest = np.zeros(rows.num_rows, np.uint64)
    for name in rows.column_names:
        column = rows[name].combine_chunks()
        if not pa.types.is_integer(column.type):
            column = column.dictionary_encode() if not pa.types.is_dictionary(column.type) else (
                column
            )  # fmt: skip
            column = column.indices
        digest = mix(digest ^ column.fill_null(-1).to_numpy().astype(np.uint64), 0)
    _, first = np.unique(digest, return_index=True)
    if len(first) == rows.num_rows:
        return rows
    return rows.take(pa.array(np.sort(first)))
