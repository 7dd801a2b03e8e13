"""Committed stages as folders: slots, the driver's state, and a `commit.json` written last.

    stages/00007/slots.parquet
    stages/00007/state/<name>
    stages/00007/commit.json     numbers of the commit; size and SHA-256 of every other file, and
                                 a checksum of its own

Where a replaced owner's write may still arrive, every file but `commit.json` has the beginning of
its checksum in its name (`slots@1f6d3a….parquet`), so that a late one replaces none that counts.

A folder without `commit.json` is no stage: readers don't see it, and its owner removes it. One with
it is whole, so a file that doesn't match its checksum is damage, and is refused by name rather than
silently passed over for an older stage.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import pyarrow as pa

from diet_ray.config import from_mapping
from diet_ray.errors import ConfigError, DistilledSetError
from diet_ray.memory.document import seal, unseal
from diet_ray.storage import Folder, parquet_from_table, sha256, table_from_parquet

_COMMIT = "commit.json"
_SLOTS = "slots.parquet"
_STATE = "state/"
_MARK = re.compile("@[0-9a-f]{12}")
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
    """Size in bytes and SHA-256 of every file, by its name in the stage's folder."""

    def __post_init__(self) -> None:
        if min(self.epoch, self.stage, self.sequence, self.num_slots, self.next_slot) < 0:
            raise ValueError("numbers must be at least 0")


class Snapshots:
    """The committed stages below a folder. Reading needs no lock; writing has a single owner."""

    def __init__(
        self,
        folder: Folder,
        *,
        retention: int = 2,
        on_crash_point: Callable[[str], None] = lambda name: None,
        check_owner: Callable[[], None] = lambda: None,
    ) -> None:
        """Keeps the last `retention` stages. `check_owner` raises if another process writes now."""
        if retention < 1:
            raise ValueError("retention must be at least 1")
        self.folder = folder
        self.retention = retention
        self._on_crash_point = on_crash_point
        self._check_owner = check_owner

    def stages(self) -> list[int]:
        """Numbers of the committed stages, ascending.

        Never empty, nor behind a stage committed before the call, once there is any.
        """
        numbers = self._numbers()
        while True:
            found = [s for s in numbers if self.folder.exists(f"{stage_name(s)}/{_COMMIT}")]
            if found:
                return found
            # All that were listed may have been pruned since, for newer ones that weren't listed.
            listed, numbers = numbers, self._numbers()
            if numbers == listed:
                return []

    def _numbers(self) -> list[int]:
        return sorted(int(n) for n in self.folder.names() if n.isascii() and n.isdigit())

    def latest(self) -> CommittedStage | None:
        """The last committed stage, or None. Raises `DistilledSetError` if it is damaged."""
        stages = self.stages()
        return self.read(stages[-1]) if stages else None

    def read(self, stage: int) -> CommittedStage:
        """What a stage's `commit.json` says. Raises `DistilledSetError` naming the file."""
        where = f"{self.folder}/{stage_name(stage)}/{_COMMIT}"
        file = self.folder.find(f"{stage_name(stage)}/{_COMMIT}")
        if file is None:
            raise DistilledSetError(f"{where}: no such file: stage {stage} has gone")
        content = unseal(file, where, self._advice(stage))
        try:
            committed = from_mapping(CommittedStage, content, where)
        except ConfigError as e:
            raise DistilledSetError(f"{e}; {self._advice(stage)}") from None
        if committed.stage != stage:
            raise DistilledSetError(f"{where}: is of stage {committed.stage}")
        return committed

    def slots(self, committed: CommittedStage) -> pa.Table:
        """The slots of a stage, verified. Raises `DistilledSetError` naming the file."""
        (name,) = [n for n in committed.files if _plain(n) == _SLOTS] or [_SLOTS]
        content = self._verified(committed, name)
        where = f"{self.folder}/{stage_name(committed.stage)}/{name}"
        try:
            table = table_from_parquet(content).replace_schema_metadata(None)
        except (pa.ArrowException, OSError) as e:
            raise DistilledSetError(f"{where}: {e}") from e
        if table.num_rows != committed.num_slots:
            raise DistilledSetError(
                f"{where}: {table.num_rows} slots where {_COMMIT} says {committed.num_slots}"
            )
        return table.combine_chunks()

    def state(self, committed: CommittedStage) -> dict[str, bytes]:
        """The driver's state at the end of a stage, verified."""
        return {
            _plain(name).removeprefix(_STATE): self._verified(committed, name)
            for name in committed.files
            if name.startswith(_STATE)
        }

    def _verified(self, committed: CommittedStage, name: str) -> bytes:
        where = f"{self.folder}/{stage_name(committed.stage)}/{name}"
        num_bytes, digest = committed.files.get(name, (0, ""))
        content = self.folder.find(f"{stage_name(committed.stage)}/{name}")
        if content is None:
            raise DistilledSetError(f"{where}: no such file; {self._advice(committed.stage)}")
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
        folder = self.folder / stage_name(stage)
        plain: dict[str, bytes | memoryview] = {_SLOTS: parquet_from_table(slots)}
        plain |= {_STATE + name: content for name, content in sorted(state.items())}
        files = {name: (content, sha256(content)) for name, content in plain.items()}
        if not folder.is_local:
            files = {
                _marked(n, digest): (content, digest) for n, (content, digest) in files.items()
            }
        (slots_name, *state_names) = files
        self._on_crash_point("snapshot.before-slots")
        folder.write(slots_name, files[slots_name][0])
        self._on_crash_point("snapshot.after-slots")
        folder.write_all({name: files[name][0] for name in state_names})
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
            files={name: (len(content), digest) for name, (content, digest) in files.items()},
        )
        self._check_owner()
        folder.write_new(_COMMIT, seal(asdict(committed)))
        self._on_crash_point("snapshot.after-commit")
        return committed

    def prune(self) -> None:
        """Removes stages older than the last `retention`, and folders that never were stages.

        Where a replaced owner may still write, an unfinished stage stays: its end may yet come.
        """
        stages = self.stages()
        kept = {stage_name(s) for s in stages[-self.retention :]}
        newest = stages[-1] if stages else -1
        for name in self.folder.names():
            if not name.isdigit() or name in kept:
                continue
            if self.folder.is_local or int(name) < newest:
                # Without its commit.json first, a half-removed folder would look damaged.
                self.folder.delete(f"{name}/{_COMMIT}")
                self._on_crash_point("snapshot.prune")
                self.folder.delete(name)

    def _advice(self, stage: int) -> str:
        earlier = [s for s in self.stages() if s < stage]
        if not earlier:
            return "no earlier stage is kept: restore it from a copy, or distil again"
        return f"`diet verify --repair` goes back to stage {earlier[-1]}"


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


def stage_name(stage: int) -> str:
    return f"{stage:05d}"


def _marked(name: str, digest: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    mark = f"@{digest[:12]}"
    return f"{stem}{mark}.{suffix}" if dot else f"{name}{mark}"


def _plain(name: str) -> str:
    """Inverse of `_marked`, which leaves a name without a mark as it is."""
    return _MARK.sub("", name)
