"""Committed stages as folders: slots, the driver's state, and a `commit.json` written last.

    stages/00007/slots.parquet
    stages/00007/state/<name>
    stages/00007/commit.json     numbers of the commit; size and SHA-256 of every other file

A folder without `commit.json` is no stage: readers don't see it, and its owner removes it. One with
it is whole, so a file that doesn't match its checksum is damage, and is refused by name rather than
silently passed over for an older stage.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import pyarrow as pa

from diet_ray.config import from_mapping
from diet_ray.documents import parse_json
from diet_ray.errors import ConfigError, DistilledSetError
from diet_ray.storage import Folder, parquet_from_table, sha256, table_from_parquet

FORMAT_VERSION = 1
_COMMIT = "commit.json"
_SLOTS = "slots.parquet"
_STATE = "state/"
_READ_ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class CommittedStage:
    """What `commit.json` says of a stage."""

    epoch: int
    stage: int
    sequence: int
    sha256: str
    """Content hash of the commit message."""
    update_sha256: tuple[str, ...]
    """Content hashes of the stage's updates, by sequence."""
    num_slots: int
    next_slot: int
    total_weight: float
    files: dict[str, tuple[int, str]]
    """Size in bytes and SHA-256 of every file, by name."""

    def __post_init__(self) -> None:
        if min(self.epoch, self.stage, self.sequence, self.num_slots, self.next_slot) < 0:
            raise ValueError("numbers must be at least 0")

    @property
    def state_names(self) -> tuple[str, ...]:
        return tuple(n.removeprefix(_STATE) for n in self.files if n.startswith(_STATE))


class Snapshots:
    """The committed stages below a folder. Reading needs no lock; writing has a single owner."""

    def __init__(
        self,
        folder: Folder,
        *,
        retention: int = 2,
        on_crash_point: Callable[[str], None] = lambda name: None,
    ) -> None:
        """Keeps the last `retention` stages."""
        if retention < 1:
            raise ValueError("retention must be at least 1")
        self.folder = folder
        self.retention = retention
        self._on_crash_point = on_crash_point

    def stages(self) -> list[int]:
        """Numbers of the committed stages, ascending."""
        found = [int(n) for n in self.folder.names() if n.isascii() and n.isdigit()]
        return sorted(s for s in found if self.folder.exists(f"{_name(s)}/{_COMMIT}"))

    def latest(self) -> CommittedStage | None:
        """The last committed stage, or None. Raises `DistilledSetError` if it is damaged."""
        stages = self.stages()
        return self.read(stages[-1]) if stages else None

    def read(self, stage: int) -> CommittedStage:
        """What a stage's `commit.json` says. Raises `DistilledSetError` naming the file."""
        where = f"{self.folder}/{_name(stage)}/{_COMMIT}"
        try:
            content = parse_json(
                self.folder.read(f"{_name(stage)}/{_COMMIT}"), where, DistilledSetError
            )
        except FileNotFoundError:
            raise DistilledSetError(f"{where}: no such file: stage {stage} has gone") from None
        except (OSError, DistilledSetError) as e:
            raise DistilledSetError(f"{where}: can't be read: {e}; {self._advice(stage)}") from None
        version = content.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise DistilledSetError(
                f"{where}: format version {version}, this program reads {FORMAT_VERSION}"
            )
        try:
            committed = from_mapping(CommittedStage, content, where)
        except ConfigError as e:
            raise DistilledSetError(f"{e}; {self._advice(stage)}") from None
        if committed.stage != stage:
            raise DistilledSetError(f"{where}: is of stage {committed.stage}")
        return committed

    def slots(self, committed: CommittedStage) -> pa.Table:
        """The slots of a stage, verified. Raises `DistilledSetError` naming the file."""
        content = self._verified(committed, _SLOTS)
        try:
            table = table_from_parquet(content).replace_schema_metadata(None)
        except (pa.ArrowException, OSError) as e:
            raise DistilledSetError(f"{self.folder}/{_name(committed.stage)}/{_SLOTS}: {e}") from e
        if table.num_rows != committed.num_slots:
            raise DistilledSetError(
                f"{self.folder}/{_name(committed.stage)}/{_SLOTS}: {table.num_rows} slots where "
                f"{_COMMIT} says {committed.num_slots}"
            )
        return table.combine_chunks()

    def state(self, committed: CommittedStage) -> dict[str, bytes]:
        """The driver's state at the end of a stage, verified."""
        names = committed.state_names
        return {name: self._verified(committed, _STATE + name) for name in names}

    def _verified(self, committed: CommittedStage, name: str) -> bytes:
        where = f"{self.folder}/{_name(committed.stage)}/{name}"
        try:
            num_bytes, digest = committed.files[name]
            content = self.folder.read(f"{_name(committed.stage)}/{name}")
        except (OSError, KeyError):
            raise DistilledSetError(
                f"{where}: can't be read; {self._advice(committed.stage)}"
            ) from None
        if len(content) != num_bytes or sha256(content) != digest:
            raise DistilledSetError(
                f"{where}: doesn't match its checksum; {self._advice(committed.stage)}"
            )
        return content

    def write(
        self,
        slots: pa.Table,
        state: Mapping[str, bytes],
        *,
        epoch: int,
        stage: int,
        sequence: int,
        content_hash: str,
        update_hashes: tuple[str, ...],
        next_slot: int,
        total_weight: float,
    ) -> CommittedStage:
        """Commits a stage; it counts from the moment that `commit.json` has its name."""
        folder = self.folder / _name(stage)
        folder.delete(_COMMIT)
        files: dict[str, bytes | memoryview] = {_SLOTS: parquet_from_table(slots)}
        files |= {_STATE + name: content for name, content in sorted(state.items())}
        self._on_crash_point("snapshot.before-slots")
        folder.write(_SLOTS, files[_SLOTS])
        self._on_crash_point("snapshot.after-slots")
        folder.write_all({n: content for n, content in files.items() if n != _SLOTS})
        self._on_crash_point("snapshot.after-state")
        committed = CommittedStage(
            epoch=epoch,
            stage=stage,
            sequence=sequence,
            sha256=content_hash,
            update_sha256=update_hashes,
            num_slots=slots.num_rows,
            next_slot=next_slot,
            total_weight=total_weight,
            files={name: (len(content), sha256(content)) for name, content in files.items()},
        )
        document = {"format_version": FORMAT_VERSION} | asdict(committed)
        folder.write(_COMMIT, json.dumps(document, indent=1, sort_keys=True).encode())
        self._on_crash_point("snapshot.after-commit")
        return committed

    def prune(self) -> None:
        """Removes stages older than the last `retention`, and folders that never were stages."""
        stages = self.stages()
        kept = {_name(s) for s in stages[-self.retention :]}
        for name in self.folder.names():
            if name.isdigit() and name not in kept:
                # Without its commit.json first, a half-removed folder would look damaged.
                self.folder.delete(f"{name}/{_COMMIT}")
                self._on_crash_point("snapshot.prune")
                self.folder.delete(name)

    def _advice(self, stage: int) -> str:
        earlier = [s for s in self.stages() if s < stage]
        if not earlier:
            return "no earlier stage is kept: restore it from a copy, or distil again"
        return f"remove {self.folder}/{_name(stage)} to go back to stage {earlier[-1]}"


def read_committed(path: Folder) -> tuple[CommittedStage, pa.Table] | None:
    """The last committed stage of the memory at `path` and its slots, for any reader at any time.

    A stage that is pruned while it is read is passed over for the newer one that replaced it.
    """
    snapshots = Snapshots(path / "stages")
    for attempt in range(_READ_ATTEMPTS):
        stages = snapshots.stages()
        try:
            if not stages:
                return None
            committed = snapshots.read(stages[-1])
            return committed, snapshots.slots(committed)
        except DistilledSetError:
            if attempt == _READ_ATTEMPTS - 1 or snapshots.stages()[-1:] == stages[-1:]:
                raise
    return None


def _name(stage: int) -> str:
    return f"{stage:05d}"
