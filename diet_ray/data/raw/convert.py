"""Two passes over a raw log: sorted runs, then one Parquet file a day (or so many rows).

A distribution sort: each task of the second pass takes one range of time out of every run, so
memory depends on neither the log's nor a day's size, and tasks share nothing but files.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import pyarrow as pa

from diet_ray.data.raw.log import MAX_DAYS, RawLog
from diet_ray.data.raw.negatives import merge_occurrences
from diet_ray.data.raw.output import write_configuration
from diet_ray.data.raw.parquet_files import LogFile, Written, write_file
from diet_ray.data.raw.runs import PART_SHIFT, PartRuns, Run, write_runs
from diet_ray.data.raw.tasks import Tasks
from diet_ray.errors import DataError, OutputError

FILE_ROWS = 1_000_000
"""Rows of a file, about, where a day is too little for one."""
REPORT = "prepare.json"

OnProgress = Callable[[str, int, int], None]
"""Told what is going on, how many tasks of it are done, and of how many."""


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What became of a raw log; also written as JSON."""

    num_read: int
    num_rows: int
    num_positive: int
    dropped: dict[str, int]
    num_test_rows: int
    files: tuple[str, ...]


def claim(out: Path) -> Path:
    """The folder that the log is made in, before it takes the place of `out`.

    Raises `OutputError` if `out` holds something already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out}: exists already; choose another folder or remove it")
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        (unfinished / "scratch").mkdir(parents=True)
    except OSError as e:
        raise OutputError(f"{unfinished}: can't be made: {e.strerror}") from None
    return unfinished


def convert(
    open_log: Callable[[Path], RawLog],
    tasks: Tasks,
    out: Path,
    *,
    about: str,
    on_progress: OnProgress = lambda *_: None,
) -> Converted:
    """Makes the folder `out`: `log/*.parquet`, `schema.yaml`, `distill.yaml`, `prepare.json`.

    open_log: given a folder for temporary files. about: what the adapter says about the log.
    Raises `DataError` naming the file at fault; then nothing is left behind.
    """
    # Tasks may run in other folders, or on other machines.
    out = out.absolute()
    unfinished = claim(out)
    try:
        scratch = unfinished / "scratch"
        log = open_log(scratch)
        found = _write_runs(log, tasks, scratch, on_progress)
        log = replace(log, stages=_stages(log, found))
        files = plan_files(log, found)
        if not files:
            raise DataError(f"no row of the log is left: {_counts(found)}; check the files")
        items = _merge_items(log, found, scratch)
        folder = unfinished / "log"
        folder.mkdir()
        written = _write_files(log, tasks, files, found, items, folder, on_progress)
        converted = _summary(log, found, written)
        write_configuration(unfinished, log, converted.num_rows, converted.num_test_rows, about)
        (unfinished / REPORT).write_text(json.dumps(vars(converted), indent=1) + "\n")
        shutil.rmtree(scratch)
        if out.exists():
            out.rmdir()
        unfinished.rename(out)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return converted


def _write_runs(
    log: RawLog, tasks: Tasks, scratch: Path, on_progress: OnProgress
) -> list[PartRuns]:
    arguments = [(i, str(scratch)) for i in range(len(log.parts))]
    found: list[PartRuns] = []
    for result in tasks.map(write_runs, log, arguments):
        found.append(result)
        on_progress("read and sort", len(found), len(arguments))
    return sorted(found, key=lambda p: p.part)


def plan_files(log: RawLog, found: list[PartRuns]) -> list[LogFile]:
    """One file a local day; where `stages` is `rows`, of so many days (or parts) as give one of
    about `FILE_ROWS` rows."""
    rows_of_day: Counter[int] = Counter()
    for part in found:
        rows_of_day.update(part.rows_of_day)
    groups: list[list[int]] = []
    num_rows = FILE_ROWS
    for day in sorted(rows_of_day):
        if log.stages == "day" or num_rows >= FILE_ROWS:
            groups.append([])
            num_rows = 0
        groups[-1].append(day)
        num_rows += rows_of_day[day]
    files: list[LogFile] = []
    first_row = 0
    for group in groups:
        name = _date(group[0]).isoformat() if log.has_time else f"{len(files):05d}"
        files.append(
            LogFile(
                name=f"{name}.parquet",
                start=_begin(group[0], log),
                end=_begin(group[-1] + 1, log),
                first_row=first_row,
            )
        )
        first_row += sum(rows_of_day[day] for day in group)
    return files


def _stages(log: RawLog, found: list[PartRuns]) -> Literal["day", "rows"]:
    if log.stages != "auto":
        return log.stages
    return "day" if len({d for p in found for d in p.rows_of_day}) <= MAX_DAYS else "rows"


def _merge_items(log: RawLog, found: list[PartRuns], scratch: Path) -> str | None:
    if log.negatives is None:
        return None
    paths = [f"{run.path}.items" for part in found for run in part.runs]
    tables = (pa.ipc.open_file(pa.OSFile(p)).read_all() for p in paths)
    items = merge_occurrences(tables, log.negatives.item)
    path = str(scratch / "items.arrow")
    with pa.ipc.new_file(path, items.schema) as writer:
        writer.write_table(items)
    return path


def _write_files(
    log: RawLog,
    tasks: Tasks,
    files: list[LogFile],
    found: list[PartRuns],
    items: str | None,
    folder: Path,
    on_progress: OnProgress,
) -> list[Written]:
    runs: tuple[Run, ...] = tuple(run for part in found for run in part.runs)
    arguments = [(file, runs, items, str(folder)) for file in files]
    written: list[Written] = []
    for result in tasks.map(write_file, log, arguments):
        written.append(result)
        on_progress("merge and write", len(written), len(arguments))
    return sorted(written, key=lambda w: [f.name for f in files].index(w.name))


def _summary(log: RawLog, found: list[PartRuns], written: list[Written]) -> Converted:
    dropped: Counter[str] = Counter()
    for part in found:
        dropped.update(part.dropped)
    if num_duplicates := sum(w.num_duplicates for w in written):
        dropped["exact duplicates of another row"] = num_duplicates
    num_rows = sum(w.num_rows for w in written)
    num_test_rows = round(num_rows / 10)
    if log.test_days is not None and len(written) > log.test_days:
        num_test_rows = sum(w.num_rows for w in written[-log.test_days :])
    return Converted(
        num_read=sum(p.num_read for p in found),
        num_rows=num_rows,
        num_positive=sum(w.num_positive for w in written),
        dropped=dict(dropped),
        num_test_rows=num_test_rows,
        files=tuple(w.name for w in written),
    )


def _begin(day: int, log: RawLog) -> int:
    """The first µs of a local day; in a log without time the first place of a part."""
    if not log.has_time:
        return day << PART_SHIFT
    midnight = datetime.combine(_date(day), datetime.min.time())
    local = midnight.replace(tzinfo=ZoneInfo(log.schema.timestamp.timezone))
    return (local - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _date(day: int) -> date:
    return date(1970, 1, 1) + timedelta(days=day)


def _counts(found: list[PartRuns]) -> str:
    dropped: Counter[str] = Counter()
    for part in found:
        dropped.update(part.dropped)
    return ", ".join(f"{n:,} {why}" for why, n in dropped.items()) or "it has none"
