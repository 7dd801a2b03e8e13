"""The log of what was acknowledged since the last commit: whatever is in it survives.

A log is a folder of numbered segments. On a local disk records are appended to the last segment and
synced; elsewhere, where files can't be appended to, each record is a segment of its own. `restart`
begins a new segment with one record and drops the older ones. A record is

    magic | length of payload | CRC-32 of payload | CRC-32 of the bytes so far | payload

A crash can tear only the record that was being written, at the end of the last segment, and that
one was never acknowledged: replay cuts it. Damage anywhere else is an error, never a silent loss:
a broken record with an intact one after it can't be a torn end. (A damaged last record looks
like a torn one and is cut; the driver's next sequence number then shows the gap.)

Elsewhere than on a local disk a process that was replaced may still finish a write. So the name of
a segment has a random part, and its number comes from what its writer has replayed and written: a
late segment replaces none of the next owner's, sorts no later than the first of them, and is never
the reason to remove one.
"""

from __future__ import annotations

import re
import secrets
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from diet_ray.errors import DistilledSetError, OutputError
from diet_ray.storage import AppendFile, Folder

_MAGIC = b"DWAL"
_HEADER = struct.Struct("<4sQI")
_CHECK = struct.Struct("<I")
_HEADER_BYTES = _HEADER.size + _CHECK.size
_SUFFIX = ".log"
_NAME = re.compile(r"\d{8}(-[0-9a-f]{16})?\.log", re.ASCII)


class Segment(NamedTuple):
    name: str
    records: list[bytes]
    good_bytes: int
    num_bytes: int
    """More than `good_bytes` if the end is torn."""


class WriteAheadLog:
    """Single owner of a log folder. `replay` first, then `append` and `restart`."""

    def __init__(self, folder: Folder, on_crash_point: Callable[[str], None]) -> None:
        self.folder = folder
        self._on_crash_point = on_crash_point
        self._file: AppendFile | None = None
        self._number = 0
        self._names: list[str] = []
        self._writable = False

    def replay(self) -> Iterator[bytes]:
        """Every good record in order of writing; cuts a torn end off the last segment.

        Raises `DistilledSetError` naming the segment and byte where the log is damaged,
        `OutputError` if the storage can't be reached.
        """
        self.close()
        self._writable = False
        self.take_over()
        for segment in self.read():
            if segment.good_bytes < segment.num_bytes and not _is_single(segment.name):
                self._open(segment.name)
                assert self._file is not None
                self._file.truncate(segment.good_bytes)
            yield from segment.records
        self._writable = bool(self._names)

    def read(self) -> Iterator[Segment]:
        """Every segment in order, changing nothing. Raises as `replay` does."""
        names = self.segments()
        for name in names:
            where = f"{self.folder}/{name}"
            content = self.folder.find(name)
            if content is None:
                # Gone since the listing: only an owner removes segments.
                raise DistilledSetError(f"{where}: has gone: the memory is in use")
            if _is_single(name):
                records = _single(content, where)
                good_bytes = len(content) if records else 0
            else:
                records, good_bytes = scan(content, where)
                # A segment's first record is written at once, so no crash can have torn it.
                if not records or (good_bytes < len(content) and name != names[-1]):
                    raise DistilledSetError(damaged(where, good_bytes))
            yield Segment(name, records, good_bytes, len(content))

    def take_over(self) -> None:
        """Makes what is there this log's own, unread: `restart` removes it."""
        self._names = self.segments()
        self._number = _number(self._names[-1]) if self._names else 0

    @property
    def number(self) -> int:
        """Of the last segment. One begins with every driver, so it is never below the epoch."""
        return self._number

    def append(self, payload: bytes) -> None:
        """Adds a record; it is durable on return. Raises `OutputError`; then it isn't there, or,
        elsewhere than on a local disk, may be, and nothing more is taken until a restart."""
        if not self._writable:
            raise OutputError(f"{self.folder}: an earlier write failed: begin again")
        record = [_header(payload), payload]
        # A memory that was brought here from elsewhere ends in a segment that takes no more.
        if not self.folder.is_local or _is_single(self._names[-1]):
            self._writable = False
            self._write_segment(b"".join(record))
            self._writable = True
            return
        if self._file is None:
            self._open(self._names[-1])
        assert self._file is not None
        self._file.append(record)

    def restart(self, payload: bytes) -> None:
        """Begins anew with one record: all earlier ones are gone once it is durable.

        After an `OutputError` nothing can be appended until a restart succeeds: the new segment may
        or may not be there, and what went into the old one would be lost with it.
        """
        self.close()
        self._on_crash_point("log.before-segment")
        self._writable = False
        old = list(self._names)
        self._write_segment(_header(payload) + payload)
        self._writable = True
        self._on_crash_point("log.after-segment")
        for name in old:
            self.folder.delete(name)
            self._names.remove(name)
        self._on_crash_point("log.after-delete")

    def _write_segment(self, content: bytes) -> None:
        self._number += 1
        suffix = "" if self.folder.is_local else f"-{secrets.token_hex(8)}"
        name = f"{self._number:08d}{suffix}{_SUFFIX}"
        self._names.append(name)
        self.folder.write(name, content)

    def segments(self) -> list[str]:
        """Names of the segments, ascending by number."""
        found = [n for n in self.folder.names() if _NAME.fullmatch(n)]
        return sorted(found, key=lambda n: (_number(n), n))

    def _open(self, name: str) -> None:
        self.close()
        path = self.folder.path_of(name)
        try:
            self._file = AppendFile(path)
        except OSError as e:
            raise OutputError(f"{path}: can't be opened: {e.strerror}") from None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def scan(content: bytes, where: str) -> tuple[list[bytes], int]:
    """The records at the start of a segment, and the bytes that they take.

    Fewer bytes than the content has mean a torn end. Raises `DistilledSetError` when an intact
    record follows a broken one.
    """
    records: list[bytes] = []
    position = 0
    while position < len(content):
        payload = _record_at(content, position)
        if payload is None:
            later = content.find(_MAGIC, position + 1)
            while later >= 0:
                if _record_at(content, later) is not None:
                    raise DistilledSetError(damaged(where, position))
                later = content.find(_MAGIC, later + 1)
            break
        records.append(payload)
        position += _HEADER_BYTES + len(payload)
    return records, position


def _record_at(content: bytes, position: int) -> bytes | None:
    header = content[position : position + _HEADER_BYTES]
    if len(header) < _HEADER_BYTES:
        return None
    magic, length, payload_check = _HEADER.unpack_from(header)
    (header_check,) = _CHECK.unpack_from(header, _HEADER.size)
    if magic != _MAGIC or header_check != zlib.crc32(header[: _HEADER.size]):
        return None
    start = position + _HEADER_BYTES
    payload = content[start : start + length]
    if len(payload) < length or zlib.crc32(payload) != payload_check:
        return None
    return payload


def _header(payload: bytes) -> bytes:
    header = _HEADER.pack(_MAGIC, len(payload), zlib.crc32(payload))
    return header + _CHECK.pack(zlib.crc32(header))


def _single(content: bytes, where: str) -> list[bytes]:
    """The record of a segment that has one; none if its upload was cut off before its end.

    The write of such a segment failed, so it was never acknowledged.
    """
    payload = _record_at(content, 0)
    if payload is not None and len(content) == _HEADER_BYTES + len(payload):
        return [payload]
    if len(content) < _HEADER_BYTES:
        if _MAGIC.startswith(content[: len(_MAGIC)]):
            return []
    else:
        magic, length, _ = _HEADER.unpack_from(content)
        (check,) = _CHECK.unpack_from(content, _HEADER.size)
        whole = magic == _MAGIC and check == zlib.crc32(content[: _HEADER.size])
        if whole and len(content) < _HEADER_BYTES + length:
            return []
    raise DistilledSetError(damaged(where, 0))


def _is_single(name: str) -> bool:
    """Whether a segment was written elsewhere than on a local disk, and so is one record."""
    return "-" in name


def _number(name: str) -> int:
    return int(name[:8])


def damaged(where: str, position: int) -> str:
    return (
        f"{where}: damaged at byte {position}; `diet verify --repair` goes back to the last "
        "committed stage, without the updates after it"
    )
