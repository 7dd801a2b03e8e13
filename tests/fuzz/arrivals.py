"""Readers of logs as they arrive: Parquet, CSV, the raw files of KuaiRand."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from diet_ray.data.encoding import Encoder
from diet_ray.data.rows import LABEL, TIMESTAMP
from diet_ray.data.schema import Schema
from diet_ray.data.sources.base import read_serially
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.sources.csv import CsvSource
from diet_ray.data.sources.kuairand import KuaiRandSource
from diet_ray.data.sources.parquet import ParquetSource
from tests.data.click_log import SCHEMA, click_rows, write_log
from tests.fuzz import arrow_values
from tests.fuzz.reader import EXAMPLES, Reader


def _check_rows(tables: Iterator[pa.Table], schema: Schema) -> None:
    """Rows that encode to what a model can take."""
    encoder = Encoder(schema)
    coded = []
    for table in tables:
        table.validate(full=True)
        label, time = table[LABEL].to_numpy(), table[TIMESTAMP].to_numpy()
        assert np.isin(label, (0.0, 1.0)).all()
        assert (np.abs(time) < 2**58).all()
        for field in schema.of_kind("numeric"):
            assert not np.isinf(table[field.name].to_numpy()).any()
        # What comes next refuses rows out of order.
        order = np.argsort(time, kind="stable")
        coded.append(encoder.code(table.take(pa.array(order)), learn=True))
    encoder.end_stage(learn=True)
    for batch in coded:
        if batch.num_rows and not encoder.histories:
            rows = encoder.encode(
                batch, first_row=0, stage_offset=0, stage_rows=max(1, batch.num_rows)
            )
            numeric = [rows[f.name].to_numpy() for f in schema.of_kind("numeric")]
            assert all(np.isfinite(values).all() for values in numeric)


def _without_history(schema: Schema) -> Schema:
    return dataclasses.replace(
        schema, fields=tuple(f for f in schema.fields if f.history_of is None)
    )


def _make_parquet(folder: Path) -> None:
    write_log(folder, click_rows(90), cuts=(60,))


def _read_parquet(folder: Path, _: Path) -> None:
    source = ParquetSource.open(SourceConfig(paths=(str(folder),)), SCHEMA)
    with contextlib.closing(read_serially(source)) as tables:
        _check_rows(tables, _without_history(SCHEMA))


def _click_csv() -> bytes:
    rows = click_rows(60)
    tags = ["|".join(t) for t in rows["tags"].to_pylist()]
    rows = rows.set_column(rows.column_names.index("tags"), "tags", pa.array(tags))
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(rows, sink)
    return sink.getvalue().to_pybytes()


def _make_csv(folder: Path) -> None:
    (folder / "a.csv").write_bytes(_click_csv())
    (folder / "b.csv.gz").write_bytes(gzip.compress(_click_csv(), mtime=0))


def _read_csv(folder: Path, _: Path) -> None:
    source = CsvSource.open(SourceConfig(paths=(str(folder),)), SCHEMA)
    with contextlib.closing(read_serially(source)) as tables:
        _check_rows(tables, _without_history(SCHEMA))


def _make_kuairand(folder: Path) -> None:
    lines = ["user_id,video_id,hourmin,time_ms,long_view"]
    lines += [f"{i % 5},{i % 7},{i % 24},{1_650_000_000_000 + i},{i % 2}" for i in range(40)]
    (folder / "log_standard_x.csv").write_text("\n".join(lines) + "\n")
    users = ["user_id,degree"] + [f"{i},high" for i in range(5)]
    (folder / "user_features_x.csv").write_text("\n".join(users) + "\n")
    videos = ["video_id,duration_ms,tag"] + [f"{i},{100 * i},1" for i in range(7)]
    (folder / "video_features_basic_x.csv").write_text("\n".join(videos) + "\n")


def _read_kuairand(folder: Path, _: Path) -> None:
    schema = Schema.load(EXAMPLES / "kuairand" / "schema.yaml")
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    source = KuaiRandSource.open(SourceConfig(paths=(str(folder),)), schema, scratch)
    with contextlib.closing(read_serially(source)) as tables:
        _check_rows(tables, _without_history(schema))


READERS = (
    Reader(name="parquet", make=_make_parquet, read=_read_parquet, weight=14,
           changes=arrow_values.change_parquet),
    Reader(name="csv", make=_make_csv, read=_read_csv, weight=14, alone=True),
    Reader(name="kuairand", make=_make_kuairand, read=_read_kuairand, weight=4),
)  # fmt: skip
