"""What the driver sends to the memory: updates of a stage, and the commit that ends it.

Both travel and are logged as the same bytes: a JSON header (kind, epoch, stage, sequence, names and
lengths of sections, content hash), then sections of raw bytes (Arrow IPC for slots). The content
hash covers the sections alone, so that the same work done again by a later driver has the same one.

    length of the header, 4 bytes | header | sections
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from diet_ray.errors import DistilledSetError
from diet_ray.memory.slots import canonical

_LENGTH = struct.Struct("<I")
_STATE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def no_slots() -> np.ndarray:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Update:
    """One change of the slots: some removed, some replaced as whole rows, some new.

    `epoch` names the driver, `sequence` counts the messages of a stage from 0.
    """

    epoch: int
    stage: int
    sequence: int
    added: pa.Table | None = None
    changed: pa.Table | None = None
    removed: np.ndarray = field(default_factory=no_slots)
    """Slot numbers (r,), int64."""

    def to_bytes(self, layout: pa.Schema) -> bytes:
        """The message, its slots in the canonical form of `layout`.

        Raises `DistilledSetError` for a column that isn't as `layout` says.
        """
        removed = np.sort(np.asarray(self.removed, dtype=np.int64))
        sections = {
            "added": _table_bytes(self.added, layout),
            "changed": _table_bytes(self.changed, layout),
            "removed": memoryview(removed.astype("<i8").tobytes()),
        }
        return pack(self, "update", sections)

    @classmethod
    def from_message(cls, message: Message, layout: pa.Schema) -> Update:
        """Raises `DistilledSetError` if the sections are no update of such slots."""
        message.require("update")
        added, changed = (_table(message, name, layout) for name in ("added", "changed"))
        removed = message.section("removed")
        if len(removed) % 8:
            raise DistilledSetError(f"{message}: section `removed` is broken")
        return cls(
            epoch=message.epoch,
            stage=message.stage,
            sequence=message.sequence,
            added=added,
            changed=changed,
            removed=np.frombuffer(removed, dtype="<i8").astype(np.int64),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Commit:
    """The end of a stage: makes its updates visible, with the driver's own state beside them."""

    epoch: int
    stage: int
    sequence: int
    state: Mapping[str, bytes]
    """Opaque files by name: all that the driver needs to go on bit for bit."""

    def to_bytes(self) -> bytes:
        """Raises `DistilledSetError` for a name that can't be a file's."""
        for name in self.state:
            if not _STATE_NAME.fullmatch(name):
                raise DistilledSetError(
                    f"state `{name}`: a name has letters, digits and _ . - only, up to 100"
                )
        return pack(self, "commit", {name: self.state[name] for name in sorted(self.state)})

    @classmethod
    def from_message(cls, message: Message) -> Commit:
        """Raises `DistilledSetError` if it is no commit."""
        message.require("commit")
        state = {name: bytes(message.section(name)) for name in message.sections}
        commit = cls(
            epoch=message.epoch, stage=message.stage, sequence=message.sequence, state=state
        )
        commit.to_bytes()
        return commit


@dataclass(frozen=True, kw_only=True)
class Ack:
    """The memory's word that a message is applied, once, and durable."""

    epoch: int
    stage: int
    sequence: int
    sha256: str
    """Content hash of the message."""
    num_slots: int
    next_slot: int
    repeated: bool = False
    """The message had been applied before; this time nothing happened."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a memory stands, and so what its driver must send next."""

    epoch: int
    committed_stage: int | None
    """The last stage that readers see; None before the first commit."""
    open_stage: int | None
    """The stage that has updates but no commit yet."""
    next_sequence: int
    """Sequence of the next message of the open stage, or of the next stage's first: 0."""
    next_slot: int
    """Number of the next new slot; numbers are never used again."""
    num_slots: int


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message as bytes whose checksum was verified; sections are views into them."""

    kind: str
    epoch: int
    stage: int
    sequence: int
    sha256: str
    extra: Mapping[str, Any]
    """Further keys of the header."""
    sections: Mapping[str, memoryview]

    def __str__(self) -> str:
        return f"{self.kind} {self.sequence} of stage {self.stage}"

    def require(self, kind: str) -> None:
        if self.kind != kind:
            raise DistilledSetError(f"{self}: found where a message of kind `{kind}` belongs")

    def section(self, name: str) -> memoryview:
        if name not in self.sections:
            raise DistilledSetError(f"{self}: section `{name}` is missing")
        return self.sections[name]


def pack(
    position: Any,
    kind: str,
    sections: Mapping[str, bytes | memoryview],
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """Frames a message. `position` has `epoch`, `stage` and `sequence`."""
    header = {
        "kind": kind,
        "epoch": position.epoch,
        "stage": position.stage,
        "sequence": position.sequence,
        "sections": [[name, len(content)] for name, content in sections.items()],
        "sha256": _content_hash(sections.items()),
        "extra": dict(extra or {}),
    }
    encoded = json.dumps(header, sort_keys=True).encode()
    return b"".join([_LENGTH.pack(len(encoded)), encoded, *sections.values()])


def unpack(content: bytes | memoryview) -> Message:
    """Inverse of `pack`. Raises `DistilledSetError` for anything that `pack` didn't write."""
    view = memoryview(content)
    try:
        (length,) = _LENGTH.unpack_from(view)
        header = json.loads(bytes(view[_LENGTH.size : _LENGTH.size + length]))
        position = _LENGTH.size + length
        sections: dict[str, memoryview] = {}
        for name, num_bytes in header["sections"]:
            if not isinstance(num_bytes, int) or num_bytes < 0 or name in sections:
                raise ValueError("sections overlap")
            sections[name] = view[position : position + num_bytes]
            position += num_bytes
        if position != len(view):
            raise ValueError(f"{len(view)} bytes where the header says {position}")
        if _content_hash(sections.items()) != header["sha256"]:
            raise ValueError("its checksum differs")
        numbers = {key: header[key] for key in ("epoch", "stage", "sequence")}
        if not all(type(n) is int and n >= 0 for n in numbers.values()):
            raise ValueError("epoch, stage and sequence must be whole numbers")
        if not isinstance(header["extra"], dict) or not isinstance(header["kind"], str):
            raise ValueError("its header is broken")
        return Message(
            kind=header["kind"],
            sha256=header["sha256"],
            extra=header["extra"],
            sections=sections,
            **numbers,
        )
    except (struct.error, ValueError, KeyError, TypeError, RecursionError) as e:
        raise DistilledSetError(f"message to the memory: broken: {e}") from None


def _content_hash(sections: Iterable[tuple[str, bytes | memoryview]]) -> str:
    digest = hashlib.sha256()
    for name, content in sections:
        digest.update(f"{name}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()


def _table_bytes(table: pa.Table | None, layout: pa.Schema) -> memoryview:
    table = layout.empty_table() if table is None else canonical(table, layout)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, layout) as writer:
        writer.write_table(table)
    return memoryview(sink.getvalue())


def _table(message: Message, name: str, layout: pa.Schema) -> pa.Table:
    try:
        with pa.ipc.open_stream(pa.py_buffer(message.section(name))) as reader:
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError) as e:
        reason = " ".join(str(e).split())
        raise DistilledSetError(f"{message}: section `{name}`: no Arrow table: {reason}") from None
    return canonical(table, layout)
