"""Sorting more rows than fit in memory by time: sorted runs on disk, then one merge of them all.

The order is that of (timestamp, original position), hence the same however rows were read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from diet_ray.data.rows import TIMESTAMP

RUN_ROWS = 1_048_576
"""Rows that are sorted in memory at a time."""
MERGE_ROWS = 1_048_576
"""Rows of all runs together that a merge holds, about."""
_CHUNK_ROWS = 4_096


def sort_by_time(
    tables: Iterable[pa.Table],
    scratch: Path,
    *,
    run_rows: int = RUN_ROWS,
    merge_rows: int = MERGE_ROWS,
) -> Iterator[pa.Table]:
    """All rows in order of time, rows of equal time in the order in which they came."""
    paths: list[Path] = []
    waiting: list[pa.Table] = []
    num_waiting = 0
    for table in tables:
        waiting.append(table)
        num_waiting += table.num_rows
        if num_waiting >= run_rows:
            paths.append(_write_run(waiting, scratch / f"run-{len(paths):05d}.arrow"))
            waiting, num_waiting = [], 0
    if waiting:
        paths.append(_write_run(waiting, scratch / f"run-{len(paths):05d}.arrow"))
        waiting = []
    runs = [_Run(path, max(1, merge_rows // len(paths))) for path in paths]
    try:
        yield from _merge(runs)
    finally:
        for run in runs:
            run.close()


def _write_run(tables: list[pa.Table], path: Path) -> Path:
    rows = pa.concat_tables(tables)
    order = np.argsort(rows[TIMESTAMP].to_numpy(), kind="stable")
    rows = rows.take(pa.array(order))
    with pa.ipc.new_file(str(path), rows.schema) as writer:
        writer.write_table(rows, max_chunksize=_CHUNK_ROWS)
    return path


class _Run:
    """A sorted file, of which the next rows are in memory."""

    def __init__(self, path: Path, num_rows: int) -> None:
        self._path = path
        self._file = pa.OSFile(str(path))
        self._reader = pa.ipc.open_file(self._file)
        self._next_batch = 0
        self._num_chunks = max(1, num_rows // _CHUNK_ROWS)
        self.rows: pa.Table = self._reader.schema.empty_table()
        self.load()

    @property
    def exhausted(self) -> bool:
        """Whether all its rows are in memory or gone."""
        return self._next_batch == self._reader.num_record_batches

    @property
    def last_us(self) -> int:
        return int(self.rows[TIMESTAMP][-1].as_py())

    def load(self) -> None:
        """Reads more rows behind those in memory."""
        end = min(self._next_batch + self._num_chunks, self._reader.num_record_batches)
        batches = [self._reader.get_batch(i) for i in range(self._next_batch, end)]
        self.rows = pa.concat_tables(
            [self.rows, pa.Table.from_batches(batches, self._reader.schema)]
        )
        self._next_batch = end

    def take_before(self, timestamp_us: int | None) -> pa.Table:
        """Removes and returns the rows before an instant; all of them if None."""
        end = self.rows.num_rows
        if timestamp_us is not None:
            end = int(np.searchsorted(self.rows[TIMESTAMP].to_numpy(), timestamp_us))
        taken, self.rows = self.rows.slice(0, end), self.rows.slice(end)
        return taken

    def close(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


def _merge(runs: list[_Run]) -> Iterator[pa.Table]:
    while any(run.rows.num_rows or not run.exhausted for run in runs):
        open_runs = [run for run in runs if not run.exhausted]
        for run in open_runs:
            if run.rows.num_rows == 0:
                run.load()
        # Before the earliest end of what is in memory no row can be missing. At that instant one
        # can, and it may have to come before what other runs hold of it.
        limit = min((run.last_us for run in open_runs if not run.exhausted), default=None)
        # Runs follow each other in original position, so a stable sort keeps it among equals.
        rows = pa.concat_tables([run.take_before(limit) for run in runs])
        if rows.num_rows:
            order = np.argsort(rows[TIMESTAMP].to_numpy(), kind="stable")
            yield rows.take(pa.array(order))
        for run in open_runs:
            if not run.exhausted and (run.rows.num_rows == 0 or run.last_us == limit):
                run.load()
