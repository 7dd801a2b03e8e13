"""Parquet files that anybody may have written or broken: opened and decoded with care.

A footer may promise anything, pages may hold anything, and the decoder says so by many kinds of
errors. Here they all become the `DietError` that the caller asks for, naming the file; what is
decoded is validated, down to the offsets of lists and the UTF-8 of texts; and a file can't decode
to more than `MAX_EXPANSION` times its own size. Page checksums are verified where a file has them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from diet_ray.documents import cut
from diet_ray.errors import DietError

MAX_EXPANSION = 1_000
"""Decoded bytes for each byte of a file that is read in one go; run-length encoding of a few
constant columns stays far below."""
SMALL_BYTES = 1 << 26
"""What any file may decode to, however small it is."""


@contextlib.contextmanager
def decoding(where: str, error: type[DietError], remedy: str = "") -> Iterator[None]:
    """Turns whatever a decoder raises into `error`, which names `where` and ends in `remedy`."""
    try:
        yield
    except DietError:
        raise
    except Exception as e:
        raise error(f"{where}: can't be read: {_reason(e)}{remedy and f'; {remedy}'}") from None


def open_parquet(source: pa.NativeFile) -> pq.ParquetFile:
    """A file whose footer was read and agrees with itself. Raises any decoder's error."""
    file = pq.ParquetFile(source, pre_buffer=False, page_checksum_verification=True)
    metadata = file.metadata
    rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    if min(rows, default=0) < 0 or sum(rows) != metadata.num_rows:
        raise ValueError(f"its footer says {metadata.num_rows} rows, its row groups {sum(rows)}")
    _ = file.schema_arrow
    return file


def read_whole(content: bytes | memoryview, columns: list[str] | None = None) -> pa.Table:
    """The table in the bytes of a file, on the calling thread. Raises `ArrowInvalid`."""
    try:
        file = open_parquet(pa.BufferReader(content))
        for name in columns or ():
            if name not in file.schema_arrow.names:
                raise ValueError(f"no column `{name}`")
        decoded = _decoded_bytes(file)
        if decoded > SMALL_BYTES + MAX_EXPANSION * len(content):
            raise ValueError(f"its {len(content)} bytes claim to hold {decoded}")
        table = file.read(columns=columns, use_threads=False)
        table.validate(full=True)
    except Exception as e:
        raise pa.ArrowInvalid(_reason(e)) from None
    return table


def _decoded_bytes(file: pq.ParquetFile) -> int:
    """Of all columns; lists of any length and texts count as they lie in uncompressed pages.

    From the footer's schema and row groups alone: to ask pyarrow for a broken column's own metadata
    ends the process.
    """
    metadata = file.metadata
    pages = sum(
        max(0, metadata.row_group(i).total_byte_size) for i in range(metadata.num_row_groups)
    )
    return pages + metadata.num_rows * sum(value_bytes(kind) for kind in file.schema_arrow.types)


def value_bytes(kind: pa.DataType) -> int:
    """Of one value of the type; 0 if they differ."""
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * value_bytes(kind.value_type)
    try:
        return -(-int(kind.bit_width) // 8)
    except ValueError:
        return 0


def _reason(error: Exception) -> str:
    return cut(str(error)).rstrip(".") or type(error).__name__
