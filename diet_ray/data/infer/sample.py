"""The first rows of a CSV or Parquet file, typed as they look, and whether it is in time order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from diet_ray.data.raw.start import Start, start_of
from diet_ray.data.sources.csv import CsvFormat
from diet_ray.data.sources.files import filesystem_of, one_line
from diet_ray.errors import DataError

SAMPLE_ROWS = 200_000
_DELIMITERS = (",", "\t", ";", "|")
_BLOCK_BYTES = 1 << 26
"""Some hundred thousand rows."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    file: str
    rows: pa.Table
    delimiter: str | None
    """Of CSV; None: Parquet."""
    is_whole: bool
    """Whether these are all the rows."""


def take_sample(file: str) -> Sample:
    """Raises `DataError` if the file is neither Parquet nor CSV with a header line."""
    start = start_of(file)
    try:
        if start.kind == "parquet":
            return _of_parquet(file)
        return _of_csv(start)
    except (pa.ArrowException, OSError) as e:
        raise DataError(f"{file}: can't be read: {one_line(e)}") from None


def in_time_order(sample: Sample, column: str) -> bool:
    """Whether a column never falls, over the whole file, in one pass that keeps nothing."""
    last = None
    for values in _stream(sample, column):
        values = values.drop_null()
        if not len(values):
            continue
        falls = pc.any(pc.less(values[1:], values[:-1])).as_py()
        if falls or (last is not None and values[0].as_py() < last):
            return False
        last = values[-1].as_py()
    return True


def _stream(sample: Sample, column: str) -> Iterator[pa.Array]:
    if sample.is_whole:
        yield sample.rows[column].combine_chunks()
        return
    if sample.delimiter is None:
        system, path = filesystem_of(sample.file)
        with system.open_input_file(path) as raw:
            for batch in pq.ParquetFile(raw).iter_batches(columns=[column], use_threads=False):
                yield batch.column(0)
        return
    kind = sample.rows.schema.field(column).type
    for table in CsvFormat(delimiter=sample.delimiter).stream(sample.file, [column]):
        yield table[column].cast(kind).combine_chunks()


def _of_parquet(file: str) -> Sample:
    system, path = filesystem_of(file)
    with system.open_input_file(path) as raw:
        parquet = pq.ParquetFile(raw)
        batches, num_rows = [], 0
        for batch in parquet.iter_batches(65_536, use_threads=False):
            batches.append(batch)
            num_rows += batch.num_rows
            if num_rows >= SAMPLE_ROWS:
                break
        rows = pa.Table.from_batches(batches, parquet.schema_arrow)
        is_whole = rows.num_rows == parquet.metadata.num_rows
    return Sample(file=file, rows=rows.combine_chunks(), delimiter=None, is_whole=is_whole)


def _of_csv(start: Start) -> Sample:
    delimiter = max(_DELIMITERS, key=lambda d: len(start.fields(0, d)))
    names = list(start.fields(0, delimiter))
    if len(names) < 2 or any(not n or _is_number(n) for n in names):
        raise DataError(
            f"{start.file}: its first line names no columns: {start.lines[0][:80]!r}; write a line "
            "with their names above it"
        )
    system, path = filesystem_of(start.file)
    batches, num_rows, is_whole = [], 0, True
    with pa_csv.open_csv(
        system.open_input_stream(path, compression=start.compression),
        # The first block decides on types, for good.
        pa_csv.ReadOptions(
            use_threads=False, column_names=names, skip_rows=1, block_size=_BLOCK_BYTES
        ),
        pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        pa_csv.ConvertOptions(strings_can_be_null=True, timestamp_parsers=[]),
    ) as reader:
        for batch in reader:
            batches.append(batch)
            num_rows += batch.num_rows
            if num_rows >= SAMPLE_ROWS:
                is_whole = False
                break
    rows = pa.Table.from_batches(batches).combine_chunks()
    return Sample(file=start.file, rows=rows, delimiter=delimiter, is_whole=is_whole)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
