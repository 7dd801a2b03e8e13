"""The beginning of a raw file, by which it is recognised whatever its name is."""

from __future__ import annotations

import codecs
import csv
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from diet_ray.data.sources.files import filesystem_of, one_line
from diet_ray.errors import DataError

START_BYTES = 256 * 1024
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}


@dataclass(frozen=True, kw_only=True)
class Start:
    file: str
    lines: tuple[str, ...]
    """The first whole lines, without line ends and byte-order mark; of Parquet none."""
    encoding: str = "utf8"
    """Latin-1 text may be valid GB 18030 as well, which an adapter knows better."""
    compression: str | None = None
    num_bytes: int = 0
    """As stored."""
    parquet_columns: tuple[str, ...] | None = None

    @cached_property
    def header(self) -> tuple[str, ...]:
        """The comma-separated names of the first line, without the blanks around them."""
        return self.fields(0)

    def fields(self, line: int, delimiter: str = ",") -> tuple[str, ...]:
        """A line's fields; none where there is no such line."""
        if line >= len(self.lines):
            return ()
        text = self.lines[line]
        if len(delimiter) > 1:
            return tuple(f.strip() for f in text.split(delimiter))
        return tuple(
            f.strip()
            for f in next(csv.reader([text], delimiter=delimiter, skipinitialspace=True), [])
        )

    @property
    def kind(self) -> Literal["text", "parquet"]:
        return "text" if self.parquet_columns is None else "parquet"


def start_of(file: str) -> Start:
    """Reads the beginning of a file. Raises `DataError` if that can't be done, or if the file is an
    archive or empty."""
    system, path = filesystem_of(file)
    try:
        num_bytes = system.get_file_info(path).size or 0
        with system.open_input_file(path) as raw:
            magic = raw.read(4)
            if magic == b"PAR1":
                names = pq.ParquetFile(raw).schema_arrow.names
                return Start(file=file, lines=(), num_bytes=num_bytes, parquet_columns=tuple(names))
        if magic.startswith(b"PK\x03\x04"):
            raise DataError(f"{file}: is a zip archive; unpack it first")
        compression = next((c for m, c in _COMPRESSIONS.items() if magic.startswith(m)), None)
        with system.open_input_stream(path, compression=compression) as stream:
            content = stream.read(START_BYTES)
    except FileNotFoundError:
        raise DataError(f"{file}: no such file") from None
    except (pa.ArrowException, OSError) as e:
        raise DataError(f"{file}: can't be read: {one_line(e)}") from None
    if content[257:262] == b"ustar":
        raise DataError(f"{file}: is a tar archive; unpack it first")
    if not content.strip():
        raise DataError(f"{file}: is empty; remove it from the paths")
    whole = content if len(content) < START_BYTES else content[: content.rfind(b"\n") + 1]
    text, encoding = _decoded(whole.removeprefix(codecs.BOM_UTF8))
    lines = tuple(line.removesuffix("\r") for line in text.split("\n"))
    return Start(
        file=file,
        lines=lines[:-1] if lines[-1] == "" else lines,
        encoding=encoding,
        compression=compression,
        num_bytes=num_bytes,
    )


def _decoded(content: bytes) -> tuple[str, str]:
    for encoding in ("utf8", "gb18030"):
        try:
            return content.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1"), "latin-1"
