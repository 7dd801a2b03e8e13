"""Cutting raw files at line ends into chunks that tasks read one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from diet_ray.data.raw.formats import Format
from diet_ray.data.raw.start import Start
from diet_ray.data.sources.files import filesystem_of, one_line
from diet_ray.errors import DataError

CHUNK_BYTES = 32 * 1024**2
"""Text that is parsed at a time."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The lines of a file that begin in [start, end)."""

    file: str
    start: int
    end: int
    format: Format
    compression: str | None = None

    def read(self) -> Iterator[pa.Table]:
        """Its rows in order; more than one table only from a compressed file, which is one chunk.

        Raises `DataError` naming the file and about where in it.
        """
        position = self.start
        for content in _line_blocks(self):
            yield self.format.parse(content, f"{self.file}: after byte {position}")
            position += len(content)


def cut_files(
    files: Iterable[tuple[Start, Format]], chunk_bytes: int = CHUNK_BYTES
) -> tuple[Chunk, ...]:
    """Chunks of all files, in order."""
    chunks = []
    for start, file_format in files:
        step = chunk_bytes if start.compression is None else max(1, start.num_bytes)
        chunks += [
            Chunk(
                file=start.file,
                start=begin,
                end=min(begin + step, start.num_bytes),
                format=file_format,
                compression=start.compression,
            )
            for begin in range(0, start.num_bytes, step)
        ]
    return tuple(chunks)


def _line_blocks(chunk: Chunk) -> Iterator[bytes]:
    system, path = filesystem_of(chunk.file)
    try:
        if chunk.compression is not None:
            with system.open_input_stream(path, compression=chunk.compression) as stream:
                yield from _stream_blocks(stream, chunk.format.header)
            return
        with system.open_input_file(path) as file:
            content = _lines_between(file, chunk.start, chunk.end)
    except FileNotFoundError:
        raise DataError(f"{chunk.file}: no such file") from None
    except (pa.ArrowException, OSError) as e:
        raise DataError(f"{chunk.file}: can't be read: {one_line(e)}") from None
    if chunk.start == 0 and chunk.format.header:
        content = _without_first_line(content)
    if content:
        yield content


def _lines_between(file: pa.NativeFile, start: int, end: int) -> bytes:
    # A line belongs to the chunk in which it begins, so one that begins at `start` is told by the
    # byte before it.
    first = max(0, start - 1)
    file.seek(first)
    content = file.read(end - first)
    if start > 0:
        content = _without_first_line(content)
    if not content or content.endswith(b"\n"):
        return content
    parts = [content]
    while more := file.read(64 * 1024):
        line_end = more.find(b"\n")
        if line_end >= 0:
            parts.append(more[: line_end + 1])
            break
        parts.append(more)
    return b"".join(parts)


def _stream_blocks(stream: pa.NativeFile, header: bool) -> Iterator[bytes]:
    rest = b""
    while more := stream.read(CHUNK_BYTES):
        whole = more.rfind(b"\n") + 1
        content, rest = (rest + more[:whole], more[whole:]) if whole else (b"", rest + more)
        if content and header:
            content, header = _without_first_line(content), False
        if content:
            yield content
    if rest and not header:
        yield rest


def _without_first_line(content: bytes) -> bytes:
    line_end = content.find(b"\n")
    return content[line_end + 1 :] if line_end >= 0 else b""
