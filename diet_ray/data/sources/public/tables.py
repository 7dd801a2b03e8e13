"""Tables of any columns, of which a schema file says what they mean: CSV, Parquet, Delta, Iceberg.

Rows are checked value by value against the schema, sorted by time, and written a file a day. A
Delta or Iceberg table is first written to Parquet by Ray Data, which needs the package `deltalake`
or `pyiceberg`; an Iceberg table is named as `namespace.table` in the catalogue that pyiceberg's own
configuration calls `default`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from diet_ray.data.raw.log import (
    LABEL,
    TIME,
    Cleaned,
    Options,
    RawLog,
    prepared_schema,
    refuse_negatives,
)
from diet_ray.data.rows import LABEL as ROW_LABEL
from diet_ray.data.rows import TIMESTAMP
from diet_ray.data.schema import Schema
from diet_ray.data.sources.base import RawShard, Source
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.sources.csv import CsvSource
from diet_ray.data.sources.files import one_line
from diet_ray.data.sources.parquet import ParquetSource
from diet_ray.errors import ConfigError, DataError

TABLES = ("csv", "parquet", "delta", "iceberg")


@dataclass(frozen=True, kw_only=True)
class ShardPart:
    source: Source
    shard: RawShard

    def read(self) -> Iterator[pa.Table]:
        yield from self.source.read(self.shard)


def open_table(
    kind: str, path: str, options: Options, scratch: Path, delimiter: str = ","
) -> RawLog:
    """Raises `ConfigError` without a schema, `DataError` naming the file that can't be read."""
    schema = options.schema
    if schema is None:
        raise ConfigError(
            f"--schema: {kind} needs a schema file; `diet prepare --infer FILE` proposes one"
        )
    refuse_negatives(options, "the table")
    if options.label is not None:
        raise ConfigError("--label: the schema file names the label of a table")
    for field in schema.fields:
        if field.name in (TIME, LABEL):
            raise ConfigError(f"field {field.name}: the prepared log has a column of this name")
    if kind in ("delta", "iceberg"):
        path = write_as_parquet(kind, path, schema, scratch)
    config = SourceConfig(paths=(path,), delimiter=delimiter)
    source: Source = (
        CsvSource.open(config, schema) if kind == "csv" else ParquetSource.open(config, schema)
    )
    return RawLog(
        # What is written has the names of the fields.
        schema=prepared_schema(
            timezone=schema.timestamp.timezone,
            fields=tuple(replace(f, column=None) for f in schema.fields),
        ),
        parts=tuple(ShardPart(source=source, shard=s) for s in source.shards),
        clean=_clean,
        finish=_finish,
        stages="auto",
    )


def write_as_parquet(kind: str, table: str, schema: Schema, scratch: Path) -> str:
    """A Delta or Iceberg table's columns as Parquet files in a folder, by Ray Data.

    Raises `DataError` naming the table.
    """
    import ray.data

    from diet_ray.cluster import connect

    connect()
    folder = str(scratch / "table")
    try:
        rows = (
            ray.data.read_delta(table)
            if kind == "delta"
            else ray.data.read_iceberg(table_identifier=table)
        )
        rows.select_columns(list(schema.columns)).write_parquet(folder)
    except ImportError as e:
        raise ConfigError(f"{kind}: {one_line(e)}; install it beside the project") from None
    except Exception as e:
        raise DataError(f"{table}: can't be read as {kind}: {one_line(e)}") from None
    return folder


def _clean(raw: pa.Table) -> Cleaned:
    label = pc.cast(raw[ROW_LABEL], pa.int8())
    columns = {n: raw[n] for n in raw.column_names if n not in (TIMESTAMP, ROW_LABEL)}
    return Cleaned(pa.table({TIME: raw[TIMESTAMP], LABEL: label, **columns}), {})


def _finish(rows: pa.Table) -> pa.Table:
    return rows
