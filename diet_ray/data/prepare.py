"""Preparing a log: one pass over the source, in time order, in memory that doesn't grow with it.

A folder holds a log from the moment its manifest is there, which is written last; until then a
marker says that the folder is unfinished, so that a later attempt may clear it away.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pyarrow as pa

from diet_ray.data.duplicates import without_duplicates
from diet_ray.data.encoding import NUM_STRATA, Encoder
from diet_ray.data.external_sort import sort_by_time
from diet_ray.data.intake import Dropped, IntakeConfig
from diet_ray.data.log import MANIFEST, PreparedLog
from diet_ray.data.log_writer import StageWriter, initial_fingerprint
from diet_ray.data.schema import Schema
from diet_ray.data.sources.base import Source
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.sources.open import open_source
from diet_ray.data.stage_checks import checked
from diet_ray.data.stages import StageConfig, cut
from diet_ray.data.stream import read_in_order
from diet_ray.data.time_order import check_order
from diet_ray.errors import DataError, OutputError
from diet_ray.parquet import decoding
from diet_ray.storage import Folder, LockFile

MARKER = "unfinished"
_MARK = b"This folder is no prepared log: preparing it did not finish.\n"
COLLIDING_SHARE = 0.5
"""From this share of a hashed field's values on, their collisions are told."""
_INTAKE = IntakeConfig()

OnRows = Callable[[int], None]
"""Told how many more rows are done."""


def prepare(
    source: SourceConfig,
    schema: Schema,
    stages: StageConfig,
    out: str | Path,
    progress: OnRows | None = None,
    *,
    intake: IntakeConfig = _INTAKE,
) -> PreparedLog:
    """Encodes a log into the new folder `out`; needs Ray, which is started if it isn't there.

    `intake` says what is done with rows that arrive broken.

    Raises `DataError` or `ConfigError` naming what is wrong with the log, and `OutputError` if
    `out` exists already; in each case nothing is left behind.
    """
    folder = Folder.at(out)
    _claim(folder)
    try:
        with _scratch(folder) as scratch:
            opened = open_source(source, schema, scratch)
            num_rows = _num_rows(opened)
            if intake.may_drop:
                with (
                    warnings.catch_warnings(),
                    contextlib.closing(_rows(opened, scratch, None, intake)) as rows,
                ):
                    warnings.simplefilter("ignore")
                    num_rows = sum(table.num_rows for table in rows)
            num_test_rows = round(num_rows * Fraction(str(stages.test_fraction)))
            if stages.test_fraction and not 0 < num_test_rows < num_rows:
                raise DataError(
                    f"{opened.shards[0].file}: {num_rows} rows are too few for a test tail of "
                    f"{stages.test_fraction:g}; add rows or set test_fraction to 0"
                )
            encoder = Encoder(schema, intake.max_values)
            writer = StageWriter(
                folder, encoder, scratch, fingerprint=initial_fingerprint(schema, stages)
            )
            with contextlib.closing(_rows(opened, scratch, None, intake)) as rows:
                pieces = cut(
                    rows,
                    stages,
                    timezone=schema.timestamp.timezone,
                    num_train_rows=num_rows - num_test_rows if num_test_rows else None,
                )
                new = writer.write(pieces, progress)
                written = tuple(checked(new, (), schema, intake, stages.by == "day"))
            log = PreparedLog(
                path=str(out),
                schema=schema,
                stage_config=stages,
                stages=written,
                fingerprint=written[-1].fingerprint,
                num_strata=NUM_STRATA,
                scales=encoder.scales,
                generation=0,
            )
            _check_classes(log, opened.shards[0].file)
            _warn_of_collisions(encoder)
            _commit(folder, log, encoder)
    except BaseException:
        _delete_all(folder)
        raise
    folder.delete(MARKER)
    return log


def append(
    log: PreparedLog,
    source: SourceConfig,
    progress: OnRows | None = None,
    *,
    intake: IntakeConfig = _INTAKE,
) -> PreparedLog:
    """Adds rows as further train stages, without reading the log's own rows again.

    Vocabularies, counts, histories and scales go on from where the log ends. Until the new manifest
    is in place the folder holds the old log, whatever happens. Raises `DataError` if a row is older
    than the log's last, and for whatever `prepare` refuses.
    """
    folder = Folder.at(log.path)
    with _exclusive(folder), _scratch(folder) as scratch:
        log = PreparedLog.open(log.path)
        last = log.stages[-1]
        encoder = Encoder(log.schema, intake.max_values)
        names = encoder.state()
        tables = {
            name: folder.read_table(f"state-{log.generation}/{name}.parquet") for name in names
        }
        where = f"{folder}/state-{log.generation}"
        with decoding(where, DataError, "restore it from a copy, or prepare the log again"):
            encoder.restore(tables, log.scales, last.end_us)
            if encoder.num_ids != last.num_ids:
                raise ValueError(f"its vocabularies aren't those of {MANIFEST}")
        opened = open_source(source, log.schema, scratch)
        _num_rows(opened)
        writer = StageWriter(
            folder,
            encoder,
            scratch,
            fingerprint=last.fingerprint,
            first_row=last.first_row + last.num_rows,
            first_shard=last.shards[-1].index + 1,
        )
        with contextlib.closing(_rows(opened, scratch, last.end_us, intake)) as rows:
            pieces = cut(
                rows,
                log.stage_config,
                timezone=log.schema.timestamp.timezone,
                num_train_rows=None,
                first_stage=last.index + 1,
            )
            new = writer.write(pieces, progress)
            by_day = log.stage_config.by == "day"
            written = tuple(checked(new, log.stages, log.schema, intake, by_day))
        if not written:
            raise DataError(f"{opened.shards[0].file}: no new row is left to add")
        longer = replace(
            log,
            stages=log.stages + written,
            fingerprint=written[-1].fingerprint,
            generation=log.generation + 1,
        )
        _warn_of_collisions(encoder)
        _commit(folder, longer, encoder)
        for name in folder.names():
            if name.startswith("state-") and name != f"state-{longer.generation}":
                folder.delete(name)
    return longer


def _claim(folder: Folder) -> None:
    try:
        names = folder.names()
    except OutputError as e:
        raise OutputError(f"{e}: is it a folder?") from None
    # A file of that name that says something else is somebody's own.
    if MARKER in names and MANIFEST not in names and folder.find(MARKER) == _MARK:
        _delete_all(folder)
    elif names:
        raise OutputError(f"{folder}: exists already; choose another folder or remove it")
    folder.write(MARKER, _MARK)


def _delete_all(folder: Folder) -> None:
    with contextlib.suppress(OSError):
        folder.filesystem.delete_dir(folder.path)


@contextlib.contextmanager
def _scratch(folder: Folder) -> Iterator[Path]:
    """A local folder for temporary files: inside the log, where there is room, if it is local."""
    if folder.is_local:
        path = Path(folder.path_of("scratch"))
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
    else:
        path = Path(tempfile.mkdtemp(prefix="diet-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _exclusive(folder: Folder) -> Iterator[None]:
    """Keeps a second process on this machine from appending at the same time."""
    if not folder.is_local:
        yield
        return
    try:
        lock = LockFile(folder.path_of("append.lock"), "append")
    except BlockingIOError:
        raise OutputError(f"{folder}: rows are being appended by another process; wait") from None
    try:
        yield
    finally:
        lock.release()


def _num_rows(source: Source) -> int:
    num_rows = sum(s.num_rows for s in source.shards)
    if not num_rows:
        raise DataError("the log holds no rows; check the paths")
    return num_rows


def _rows(
    source: Source, scratch: Path, last_us: int | None, intake: IntakeConfig
) -> Generator[pa.Table, None, None]:
    """Rows in time order, none of them older than `last_us`, nor twice if that matters."""
    dropped = Dropped()
    with contextlib.closing(read_in_order(source)) as tables:
        if source.sort:
            ordered = check_order(sort_by_time(tables, scratch), (), last_us, intake, dropped)
        else:
            ordered = check_order(tables, source.shards, last_us, intake, dropped)
        yield from without_duplicates(ordered, intake.duplicates, dropped)


def _warn_of_collisions(encoder: Encoder) -> None:
    for name, share in encoder.colliding_shares().items():
        if share > COLLIDING_SHARE:
            warnings.warn(
                f"field `{name}`: about {share:.0%} of its values share an id with another one; "
                "set a larger `hash_buckets`",
                stacklevel=2,
            )


def _check_classes(log: PreparedLog, file: str) -> None:
    for part, stages in (("training part", log.train_stages), ("test tail", log.test_stages)):
        num_positive = sum(sum(s.strata[1::2]) for s in stages)
        num_rows = sum(s.num_rows for s in stages)
        if num_rows and num_positive in (0, num_rows):
            raise DataError(
                f"{file}: column `{log.schema.label.column}`: every label of the {part} is "
                f"{int(num_positive > 0)}; {_remedy(part)}"
            )


def _remedy(part: str) -> str:
    if part == "test tail":
        return "choose a larger test_fraction or a longer log"
    return "both classes are needed to train, check the label column"


def _commit(folder: Folder, log: PreparedLog, encoder: Encoder) -> None:
    state = encoder.state()
    for name, table in state.items():
        folder.write_table(f"state-{log.generation}/{name}.parquet", table)
        if name.startswith("vocabulary/"):
            folder.write_table(f"{name}.parquet", table)
    folder.write(MANIFEST, log.to_json())
