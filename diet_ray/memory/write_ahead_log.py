"""The log of what was acknowledged since the last commit: whatever is in it survives.

A log is a folder of numbered segments. On a local disk records are appended to the last segment and
synced; elsewhere, where files can't be appended to, each record is a segment of its own. `restart`
begins a new segment with one record and drops the older ones. A record is

    magic | length of payload | CRC-32 of payload | CRC-32 of the bytes so far | payload

A crash can tear only the record that was being written, at the end of the last segment, and that
one was never acknowledged: replay cuts it. Damage anywhere else is an error, never a silent loss:
a broken record with an intact one after it can't be a torn end. (A damaged last record looks
like a torn one and is cut; the driver's next sequence number then shows the gap.)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

from diet_ray.errors import DistilledSetError, OutputError
from diet_ray.storage import AppendFile, Folder

_MAGIC = b"DWAL"
_HEADER = struct.Struct("<4sQI")
_CHECK = struct.Struct("<I")
_HEADER_BYTES = _HEADER.size + _CHECK.size
_SUFFIX = ".log"


class WriteAheadLog:
    """Single owner of a log folder. `replay` first, then `append` and `restart`."""

    def __init__(self, folder: Folder, on_crash_point: Callable[[str], None]) -> None:
        self.folder = folder
        self._on_crash_point = on_crash_point
        self._file: AppendFile | None = None
        self._segment = 0

    def replay(self) -> Iterator[bytes]:
        """Every good record in order of writing; cuts a torn end off the last segment.

        Raises `DistilledSetError` naming the segment and byte where the log is damaged.
        """
        self.close()
        segments = self.segments()
        for number in segments:
            name = _name(number)
            content = self.folder.read(name)
            records, good_bytes = scan(content, f"{self.folder}/{name}")
            # A segment's first record is written at once, so no crash can have torn it.
            torn = good_bytes < len(content)
            if not records or (torn and (number != segments[-1] or not self.folder.is_local)):
                raise DistilledSetError(_damaged(f"{self.folder}/{name}", good_bytes))
            if torn:
                self._open(number)
                assert self._file is not None
                self._file.truncate(good_bytes)
            yield from records
        self._segment = segments[-1] if segments else 0

    def append(self, payload: bytes) -> None:
        """Adds a record; it is durable on return. Raises `OutputError`; then it isn't there."""
        if self._segment == 0:
            raise OutputError(f"{self.folder}: an earlier write failed: begin again")
        record = [_header(payload), payload]
        if not self.folder.is_local:
            self.folder.write(_name(self._segment + 1), b"".join(record))
            self._segment += 1
            return
        if self._file is None:
            self._open(self._segment)
        assert self._file is not None
        self._file.append(record)

    def restart(self, payload: bytes) -> None:
        """Begins anew with one record: all earlier ones are gone once it is durable.

        After an `OutputError` nothing can be appended until a restart succeeds: the new segment may
        or may not be there, and what went into the old one would be lost with it.
        """
        self.close()
        self._on_crash_point("log.before-segment")
        old = self.segments()
        number = max([self._segment, *old]) + 1
        self._segment = 0
        self.folder.write(_name(number), _header(payload) + payload)
        self._segment = number
        self._on_crash_point("log.after-segment")
        for number in old:
            self.folder.delete(_name(number))
        self._on_crash_point("log.after-delete")

    def segments(self) -> list[int]:
        """Numbers of the segments, ascending."""
        stems = [n.removesuffix(_SUFFIX) for n in self.folder.names() if n.endswith(_SUFFIX)]
        return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit())

    def _open(self, number: int) -> None:
        self.close()
        path = self.folder.path_of(_name(number))
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
                    raise DistilledSetError(_damaged(where, position))
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


def _name(segment: int) -> str:
    return f"{segment:08d}{_SUFFIX}"


def _damaged(where: str, position: int) -> str:
    return (
        f"{where}: damaged at byte {position}; remove this file to go on from the last "
        "committed stage, without the updates after it"
    )
