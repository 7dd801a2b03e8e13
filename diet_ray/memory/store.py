"""The evolving memory on disk: updates applied exactly once, stages committed whole.

    memory.json       format version, schema, identity
    log/              write-ahead log of what was acknowledged since the last commit
    stages/00007/     committed stages, see `snapshot`
    lock, owner       which process writes, see `ownership`

A driver begins with `begin`, which gives it an epoch above all earlier ones and takes the memory
back to its last commit; from then on calls of older drivers are refused. It sends the messages of a
stage one at a time, numbered from 0, the last of them the commit. A message sent twice is
acknowledged twice and applied once; one that is missing, or differs from what was acknowledged
under its number, is refused. Whatever was acknowledged is durable.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from diet_ray.config import from_mapping, to_mapping
from diet_ray.data.schema import Schema
from diet_ray.errors import ConfigError, DistilledSetError
from diet_ray.memory.document import seal, unseal
from diet_ray.memory.ownership import own
from diet_ray.memory.slots import (
    aged,
    apply_changes,
    check_slots,
    from_columns,
    next_slot,
    slot_schema,
    to_columns,
)
from diet_ray.memory.snapshot import CommittedStage, Snapshots, stage_name
from diet_ray.memory.update import Ack, Commit, Message, Position, Update, pack, unpack
from diet_ray.memory.write_ahead_log import WriteAheadLog
from diet_ray.storage import Folder

CRASH_POINTS = (
    "begin.before-log",
    "begin.before-ack",
    "apply.before-log",
    "apply.after-log",
    "apply.before-ack",
    "commit.before-snapshot",
    "snapshot.before-slots",
    "snapshot.after-slots",
    "snapshot.after-state",
    "snapshot.after-commit",
    "log.before-segment",
    "log.after-segment",
    "log.after-delete",
    "commit.before-prune",
    "snapshot.prune",
    "commit.before-ack",
)
"""Every point at which a crash is tried; `on_crash_point` is called with its name."""
MANIFEST = "memory.json"
_NUM_PAST_DRIVERS = 100
"""So many drivers that were replaced are known by name."""


def create_memory(path: str | Path | Folder, schema: Schema) -> str:
    """Makes an empty memory for rows of `schema`, or checks that the one there is for them.

    Returns its identity. Raises `DistilledSetError` if it is for another schema or damaged.
    """
    folder = Folder.at(path)
    if folder.exists(MANIFEST):
        found, identity = read_identity(folder)
        if found != schema:
            raise DistilledSetError(
                f"{folder}/{MANIFEST}: the memory is for another schema: choose another folder, "
                "or use the schema it was made with"
            )
        return identity
    identity = uuid.uuid4().hex
    folder.write_new(MANIFEST, seal({"identity": identity, "schema": to_mapping(schema)}))
    return identity


def read_identity(folder: Folder) -> tuple[Schema, str]:
    """Schema and identity of the memory in a folder. Raises `DistilledSetError`."""
    where = f"{folder}/{MANIFEST}"
    file = folder.find(MANIFEST)
    if file is None:
        raise DistilledSetError(f"{where}: no such file: there is no memory here")
    content = unseal(file, where)
    if "identity" not in content:
        raise DistilledSetError(f"{where}: broken: key `identity` is missing")
    identity = str(content["identity"])
    try:
        return from_mapping(Schema, content.get("schema", {}), where), identity
    except ConfigError as e:
        raise DistilledSetError(f"{e}") from None


class MemoryStore:
    """Owner of a memory folder. Not thread-safe; one instance a folder, which `close` ends."""

    def __init__(
        self,
        path: str | Path | Folder,
        schema: Schema | None = None,
        *,
        retention: int = 2,
        lock_timeout_s: float = 0.0,
        on_crash_point: Callable[[str], None] = lambda name: None,
    ) -> None:
        """Opens a memory and replays its log; with a `schema` creates it where there is none.

        Raises `DistilledSetError` if there is none, it is for another schema or damaged, or
        another process owns it for longer than `lock_timeout_s`.
        """
        self.folder = Folder.at(path)
        if schema is not None:
            create_memory(self.folder, schema)
        self.schema, self.identity = read_identity(self.folder)
        self._layout = slot_schema(self.schema)
        self._on_crash_point = on_crash_point
        self._owner = own(self.folder, lock_timeout_s)
        self._snapshots = Snapshots(
            self.folder / "stages",
            retention=retention,
            on_crash_point=on_crash_point,
            check_owner=self._owner.check,
        )
        self._log = WriteAheadLog(self.folder / "log", on_crash_point)
        try:
            self._recover()
        except BaseException:
            self.close()
            raise

    def _recover(self) -> None:
        self._committed = self._snapshots.latest()
        # What is built on must not be forgotten: the process before may have died, or been refused,
        # between giving a file its name and syncing that.
        built_on = [self.folder, self.folder / "log"]
        if self._committed is not None:
            built_on.append(self.folder / "stages" / stage_name(self._committed.stage))
        for folder in built_on:
            if folder.exists():
                folder.sync()
        self._epoch = self._committed.epoch if self._committed else 0
        self._driver = ""
        self._past_drivers: list[str] = []
        self._reset_to_commit()
        # A log that builds on another stage than the last committed one holds updates that are in
        # that stage already (a crash right after its commit), or were undone by going back.
        current = False
        for payload in self._log.replay():
            message = unpack(payload)
            if message.epoch < self._epoch:
                # Of a process that was replaced, and whose write came late.
                continue
            self._epoch = message.epoch
            if message.kind == "begin":
                self._driver = str(message.extra.get("driver", ""))
                self._past_drivers = [str(d) for d in message.extra.get("past_drivers", ())]
                current = message.extra.get("committed_stage") == self._committed_stage
                if self._hashes:
                    self._reset_to_commit()
            elif current and not self._is_repeated(message):
                self._check_position(message)
                update = Update.from_message(message, self._layout)
                self._take(message, update, self._changed(update))
        for folder in (self.folder, self.folder / "log", self.folder / "stages"):
            folder.delete_temporaries()
        if self._driver and not current:
            self._restart_log(self._epoch, self._driver, self._past_drivers)
        self._snapshots.prune()

    def _reset_to_commit(self) -> None:
        committed = self._committed
        if committed is None:
            self._slots = self._layout.empty_table()
            self._next_slot = 0
        else:
            slots = self._snapshots.slots(committed)
            if slots.schema != self._layout:
                raise DistilledSetError(
                    f"{self.folder}: stage {committed.stage}: its slots don't have the columns of "
                    "the memory's schema"
                )
            # Parquet names the items of a list otherwise; equal slots are to make equal files.
            self._slots = from_columns(to_columns(slots), self._layout)
            self._next_slot = committed.next_slot
        self._open_stage: int | None = None
        self._hashes: list[str] = []

    @property
    def _committed_stage(self) -> int | None:
        return None if self._committed is None else self._committed.stage

    @property
    def position(self) -> Position:
        return Position(
            epoch=self._epoch,
            committed_stage=self._committed_stage,
            open_stage=self._open_stage,
            next_sequence=len(self._hashes),
            next_slot=self._next_slot,
            num_slots=self._slots.num_rows,
        )

    def begin(self, driver: str) -> Position:
        """Makes `driver`, a name that no other driver has, the one that is listened to.

        Drops updates that were not committed. The same driver may call again: nothing happens then.
        Raises `DistilledSetError` for a driver that another one has replaced: a call that was
        delivered late takes nothing over.
        """
        if not driver:
            raise ValueError("a driver needs a name")
        if driver in self._past_drivers:
            raise DistilledSetError(
                f"{self.folder}: driver {self._epoch} has taken over this memory: this run must end"
            )
        if driver != self._driver:
            self._on_crash_point("begin.before-log")
            past = [*self._past_drivers, self._driver] if self._driver else []
            past = past[-_NUM_PAST_DRIVERS:]
            self._restart_log(self._epoch + 1, driver, past)
            self._epoch += 1
            self._past_drivers = past
            if self._hashes:
                self._reset_to_commit()
            self._driver = driver
            self._on_crash_point("begin.before-ack")
        return self.position

    def _restart_log(self, epoch: int, driver: str, past_drivers: list[str]) -> None:
        self._owner.check()
        position = Update(epoch=epoch, stage=self._committed_stage or 0, sequence=0)
        extra = {
            "driver": driver,
            "past_drivers": past_drivers,
            "committed_stage": self._committed_stage,
        }
        self._log.restart(pack(position, "begin", {}, extra))

    def apply(self, update: Update) -> Ack:
        """Applies an update once. Raises `DistilledSetError` and changes nothing if it may not be
        applied, `OutputError` if it can't be made durable."""
        return self.apply_bytes(update.to_bytes(self._layout))

    def apply_bytes(self, payload: bytes) -> Ack:
        """As `apply`, for an update that travelled."""
        message = unpack(payload)
        update = Update.from_message(message, self._layout)
        self._check_driver(message)
        if self._is_repeated(message):
            return self._ack(message, repeated=True)
        self._check_position(message)
        slots = self._changed(update)
        self._on_crash_point("apply.before-log")
        self._owner.check()
        self._log.append(payload)
        self._on_crash_point("apply.after-log")
        self._take(message, update, slots)
        self._on_crash_point("apply.before-ack")
        return self._ack(message)

    def _changed(self, update: Update) -> pa.Table:
        assert update.added is not None
        assert update.changed is not None
        if update.added.num_rows and update.added["_slot"][0].as_py() < self._next_slot:
            raise DistilledSetError(
                f"slot {update.added['_slot'][0]}: its number was used before: new slots begin at "
                f"{self._next_slot}"
            )
        check_slots(update.added)
        check_slots(update.changed)
        return apply_changes(self._slots, update.added, update.changed, update.removed)

    def _take(self, message: Message, update: Update, slots: pa.Table) -> None:
        self._slots = slots
        assert update.added is not None
        self._next_slot = max(self._next_slot, next_slot(update.added))
        self._open_stage = message.stage
        self._hashes.append(message.sha256)

    def commit(self, commit: Commit) -> Ack:
        """Ends a stage: its slots, one stage older, and the driver's state become what readers see
        and what a resume begins from. Raises as `apply` does."""
        return self.commit_bytes(commit.to_bytes())

    def commit_bytes(self, payload: bytes) -> Ack:
        """As `commit`, for a commit that travelled."""
        message = unpack(payload)
        commit = Commit.from_message(message)
        self._check_driver(message)
        if self._is_repeated(message):
            return self._ack(message, repeated=True)
        self._check_position(message)
        slots = aged(self.slots(), commit.stage)
        self._on_crash_point("commit.before-snapshot")
        self._committed = self._snapshots.write(
            slots,
            commit.state,
            epoch=commit.epoch,
            stage=commit.stage,
            sequence=commit.sequence,
            content_hash=message.sha256,
            update_hashes=tuple(self._hashes),
            next_slot=self._next_slot,
            total_weight=float(slots["_weight"].to_numpy().sum()),
        )
        self._slots = slots
        self._open_stage = None
        self._hashes = []
        self._restart_log(self._epoch, self._driver, self._past_drivers)
        self._on_crash_point("commit.before-prune")
        self._snapshots.prune()
        self._on_crash_point("commit.before-ack")
        return self._ack(message)

    def _check_driver(self, message: Message) -> None:
        if message.epoch < self._epoch:
            raise DistilledSetError(
                f"{self.folder}: {message} is of driver {message.epoch}, but driver {self._epoch} "
                "has taken over this memory: this run must end"
            )
        if message.epoch > self._epoch or not self._driver:
            raise DistilledSetError(
                f"{self.folder}: {message} is of driver {message.epoch}, which hasn't begun"
            )

    def _check_position(self, message: Message) -> None:
        if self._is_committed(message.stage):
            assert self._committed is not None
            raise DistilledSetError(
                f"{self.folder}: {message} is refused: stage {self._committed.stage} is committed"
            )
        if self._open_stage is not None and message.stage != self._open_stage:
            raise DistilledSetError(
                f"{self.folder}: {message} is refused: stage {self._open_stage} isn't committed yet"
            )
        if message.sequence < len(self._hashes):
            raise DistilledSetError(
                f"{self.folder}: {message} is refused: another one was acknowledged under its "
                "number"
            )
        if message.sequence > len(self._hashes):
            raise DistilledSetError(
                f"{self.folder}: {message} is refused: {len(self._hashes)} comes next, so one was "
                "lost"
            )

    def _is_committed(self, stage: int) -> bool:
        return self._committed is not None and stage <= self._committed.stage

    def _is_repeated(self, message: Message) -> bool:
        known: list[str] = []
        if self._open_stage == message.stage:
            known = self._hashes
        elif self._committed is not None and self._committed.stage == message.stage:
            known = [*self._committed.update_sha256, self._committed.sha256]
        return message.sequence < len(known) and known[message.sequence] == message.sha256

    def _ack(self, message: Message, repeated: bool = False) -> Ack:
        return Ack(
            epoch=message.epoch,
            stage=message.stage,
            sequence=message.sequence,
            sha256=message.sha256,
            num_slots=self._slots.num_rows,
            next_slot=self._next_slot,
            repeated=repeated,
        )

    def slots(self) -> pa.Table:
        """All slots as they are now, updates of the open stage included, ascending by `_slot`."""
        self._slots = self._slots.combine_chunks()
        return self._slots

    @property
    def committed(self) -> CommittedStage | None:
        """What is known of the last committed stage."""
        return self._committed

    def last_commit(self) -> tuple[int, dict[str, bytes]] | None:
        """The last committed stage and the driver's state at its end; None before the first."""
        if self._committed is None:
            return None
        return self._committed.stage, self._snapshots.state(self._committed)

    def close(self) -> None:
        """Lets go of files and lock. Nothing is left to write: all is durable already."""
        self._log.close()
        self._owner.release()
