"""Parquet files with any columns; only the schema's are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from diet_ray.data.rows import check_columns, normalise
from diet_ray.data.schema import Schema
from diet_ray.data.sources.base import RawShard
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.sources.files import expand, filesystem_of
from diet_ray.errors import DataError
from diet_ray.parquet import decoding, open_parquet

SUFFIXES = (".parquet", ".pq")
SHARD_ROWS = 262_144
"""Row groups are read together up to about this many rows."""
BATCH_ROWS = 65_536
"""A row group is decoded in pieces of this size, however large it is."""


@dataclass(frozen=True, kw_only=True)
class ParquetSource:
    schema: Schema
    shards: tuple[RawShard, ...]
    sort: bool

    @classmethod
    def open(cls, config: SourceConfig, schema: Schema) -> ParquetSource:
        """Lists shards from the files' footers. Raises `DataError` naming a file that is missing,
        broken or empty, or whose columns aren't those of the schema and of the first file."""
        shards: list[RawShard] = []
        first: tuple[str, pa.Schema] | None = None
        for file in expand(config.paths, SUFFIXES):
            parquet = _open(file)
            found = parquet.schema_arrow
            check_columns(found.names, schema.columns, file)
            if first is None:
                first = (file, found)
            _check_same_types(found, file, first[1], first[0], schema)
            if parquet.metadata.num_rows == 0:
                raise DataError(f"{file}: holds no rows; remove it from the paths")
            shards += _shards(file, parquet.metadata)
        return cls(schema=schema, shards=tuple(shards), sort=config.sort)

    def read(self, shard: RawShard) -> Iterator[pa.Table]:
        row = shard.first_row
        end = shard.first_row + shard.num_rows
        for table in self._tables(shard):
            yield normalise(table, self.schema, file=shard.file, first_row=row)
            row += table.num_rows
        if row != end:
            raise DataError(f"{shard.file}: {end - row} rows fewer than its footer says")

    def _tables(self, shard: RawShard) -> Iterator[pa.Table]:
        """The schema's columns, decoded and validated, a piece at a time."""
        groups = range(shard.first_row_group, shard.first_row_group + shard.num_row_groups)
        row = shard.first_row
        batches = _open(shard.file).iter_batches(
            BATCH_ROWS, row_groups=groups, columns=list(self.schema.columns), use_threads=False
        )
        while True:
            where = f"{shard.file}: after row {row}"
            with decoding(where, DataError, "the file is damaged or was cut off, write it again"):
                batch = next(batches, None)
                if batch is None:
                    return
                batch.validate(full=True)
            yield pa.Table.from_batches([batch])
            row += batch.num_rows


def _open(file: str) -> pq.ParquetFile:
    system, path = filesystem_of(file)
    with decoding(file, DataError, "it was cut off, or is no Parquet file"):
        try:
            source = system.open_input_file(path)
        except FileNotFoundError:
            raise DataError(f"{file}: no such file") from None
        return open_parquet(source)


def _check_same_types(
    found: pa.Schema, file: str, expected: pa.Schema, first_file: str, schema: Schema
) -> None:
    for column in schema.columns:
        a, b = found.field(column).type, expected.field(column).type
        if a != b:
            raise DataError(
                f"{file}: column `{column}` is {a} but {b} in {first_file}; all files must have "
                "the same types"
            )


def _shards(file: str, metadata: pq.FileMetaData) -> Iterator[RawShard]:
    first_group = first_row = num_rows = 0
    for group in range(metadata.num_row_groups):
        num_rows += metadata.row_group(group).num_rows
        is_last = group + 1 == metadata.num_row_groups
        if num_rows and (is_last or num_rows + metadata.row_group(group + 1).num_rows > SHARD_ROWS):
            yield RawShard(
                file=file,
                first_row=first_row,
                num_rows=num_rows,
                first_row_group=first_group,
                num_row_groups=group + 1 - first_group,
            )
            first_group, first_row, num_rows = group + 1, first_row + num_rows, 0
