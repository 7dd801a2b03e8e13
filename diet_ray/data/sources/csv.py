"""CSV files with any columns; only the schema's are read, as text whose meaning the schema says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv as pa_csv

from diet_ray.data.rows import check_columns, normalise
from diet_ray.data.schema import Schema
from diet_ray.data.sources.base import RawShard
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.sources.files import expand, filesystem_of, one_line
from diet_ray.errors import DataError
from diet_ray.parquet import decoding

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.zst")
BLOCK_BYTES = 8 * 1024**2


@dataclass(frozen=True, kw_only=True)
class CsvFormat:
    delimiter: str = ","
    column_names: tuple[str, ...] = ()
    """Names for files without a header line."""

    def stream(self, file: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Columns of a file as text, block by block; empty places are null.

        Raises `DataError` naming the file.
        """
        row = 0
        ragged: list[pa_csv.InvalidRow] = []

        def refuse(found: pa_csv.InvalidRow) -> str:
            ragged.append(found)
            return "error"

        try:
            for batch in self._open(file, columns, refuse):
                yield pa.Table.from_batches([batch])
                row += batch.num_rows
        except (pa.ArrowException, OSError) as e:
            if ragged:
                header_lines = 0 if self.column_names else 1
                raise DataError(
                    f"{file}: row {ragged[0].number - header_lines}: {ragged[0].actual_columns} "
                    f"columns where {ragged[0].expected_columns} are expected; check `delimiter`, "
                    "or mend the row"
                ) from None
            raise DataError(
                f"{file}: can't be read as CSV after row {row}: {one_line(e)}; check `delimiter` "
                "and the line"
            ) from None

    def header(self, file: str) -> list[str]:
        """Column names. Raises `DataError` if the file is missing or empty."""
        if self.column_names:
            return list(self.column_names)
        system, path = filesystem_of(file)
        try:
            with system.open_input_stream(path, compression=_compression(path)) as stream:
                start = stream.read(BLOCK_BYTES)
        except FileNotFoundError:
            raise DataError(f"{file}: no such file") from None
        except (pa.ArrowException, OSError) as e:
            raise DataError(f"{file}: can't be read: {one_line(e)}") from None
        line = start.split(b"\n", 1)[0].rstrip(b"\r").removeprefix(b"\xef\xbb\xbf")
        if not line:
            raise DataError(f"{file}: is empty; remove it from the paths")
        if len(line) == BLOCK_BYTES:
            raise DataError(f"{file}: its first line has no end; is it a CSV file?")
        with decoding(file, DataError, "check `delimiter` and the first line"):
            return self._names(line)

    def _names(self, line: bytes) -> list[str]:
        # Arrow itself, so that quoting means here what it means when the rows are read.
        options = pa_csv.ReadOptions(autogenerate_column_names=True)
        parse = pa_csv.ParseOptions(delimiter=self.delimiter)
        first = pa_csv.read_csv(pa.BufferReader(line + b"\n"), options, parse)
        # As text: a column may be named 007.
        kinds = dict.fromkeys(first.column_names, pa.string())
        convert = pa_csv.ConvertOptions(column_types=kinds, strings_can_be_null=False)
        names = pa_csv.read_csv(pa.BufferReader(line + b"\n"), options, parse, convert)
        return [str(names[i][0].as_py()).strip() for i in range(names.num_columns)]

    def count_rows(self, file: str, column: str) -> int:
        """Rows of a file, in one pass that keeps nothing."""
        return sum(table.num_rows for table in self.stream(file, [column]))

    def _open(
        self,
        file: str,
        columns: list[str] | None,
        on_ragged_row: Callable[[pa_csv.InvalidRow], str],
    ) -> pa_csv.CSVStreamingReader:
        names = self.header(file)
        wanted = names if columns is None else columns
        check_columns(names, wanted, file)
        system, path = filesystem_of(file)
        return pa_csv.open_csv(
            system.open_input_stream(path, compression=_compression(path)),
            # Threads would read ahead without bound.
            pa_csv.ReadOptions(
                use_threads=False,
                block_size=BLOCK_BYTES,
                column_names=names,
                skip_rows=0 if self.column_names else 1,
            ),
            pa_csv.ParseOptions(
                delimiter=self.delimiter,
                newlines_in_values=True,
                invalid_row_handler=on_ragged_row,
            ),
            pa_csv.ConvertOptions(
                include_columns=wanted,
                column_types=dict.fromkeys(wanted, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )


@dataclass(frozen=True, kw_only=True)
class CsvSource:
    schema: Schema
    shards: tuple[RawShard, ...]
    sort: bool
    format: CsvFormat

    @classmethod
    def open(cls, config: SourceConfig, schema: Schema) -> CsvSource:
        """Lists and counts the files, in one streaming pass. Raises `DataError` naming a file that
        is missing, broken or empty, or has not the schema's columns."""
        csv_format = CsvFormat(delimiter=config.delimiter, column_names=config.column_names)
        shards = tuple(
            whole_file(csv_format, file, schema.columns, schema)
            for file in expand(config.paths, SUFFIXES)
        )
        return cls(schema=schema, shards=shards, sort=config.sort, format=csv_format)

    def read(self, shard: RawShard) -> Iterator[pa.Table]:
        row = 0
        for table in self.format.stream(shard.file, list(self.schema.columns)):
            yield normalise(table, self.schema, file=shard.file, first_row=row, text=True)
            row += table.num_rows


def whole_file(
    csv_format: CsvFormat, file: str, columns: tuple[str, ...], schema: Schema
) -> RawShard:
    """A file as one shard. Raises `DataError` if columns are missing or there are no rows."""
    check_columns(csv_format.header(file), columns, file)
    num_rows = csv_format.count_rows(file, schema.timestamp.column)
    if num_rows == 0:
        raise DataError(f"{file}: holds no rows; remove it from the paths")
    return RawShard(file=file, first_row=0, num_rows=num_rows)


def _compression(path: str) -> str | None:
    return {"gz": "gzip", "zst": "zstd"}.get(path.rsplit(".", 1)[-1].lower())
