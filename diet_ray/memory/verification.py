"""Whether a memory is what it says: every checksum, every slot, every number, and their order.

Reads only, and needs no lock: a stage that its owner prunes meanwhile isn't held against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from diet_ray.data.schema import Schema
from diet_ray.errors import DistilledSetError
from diet_ray.memory.slots import canonical, check_slots, next_slot, slot_schema
from diet_ray.memory.snapshot import CommittedStage, Snapshots
from diet_ray.memory.update import Update, unpack
from diet_ray.memory.write_ahead_log import WriteAheadLog
from diet_ray.storage import Folder

_LOG_ATTEMPTS = 5
WEIGHT_TOLERANCE = 1e-5
"""Relative; weights are rounded to 32 bits where they are refined."""


@dataclass(frozen=True, kw_only=True)
class VerifiedStage:
    """A committed stage whose files are as they were written; `state` is what the driver left."""

    committed: CommittedStage
    state: Mapping[str, bytes]


@dataclass(frozen=True, kw_only=True)
class VerifiedLog:
    epoch: int
    """The last driver's; at least as high as any that an unreadable log may hide."""
    builds_on: int | None
    """The committed stage that its updates come after."""
    num_updates: int
    problem: str | None


@dataclass(frozen=True, kw_only=True)
class VerifiedMemory:
    stages: Mapping[int, VerifiedStage]
    """Good ones, ascending."""
    damaged: Mapping[int, str]
    """What is wrong with the others."""
    log: VerifiedLog

    @property
    def problems(self) -> list[str]:
        found = list(self.damaged.values())
        return found if self.log.problem is None else [*found, self.log.problem]


def verify_memory(folder: Folder, schema: Schema) -> VerifiedMemory:
    """Checks all that lies in a memory of rows of `schema`.

    Raises `OutputError` if the storage can't be reached, which says nothing about the memory.
    """
    snapshots = Snapshots(folder / "stages")
    stages: dict[int, VerifiedStage] = {}
    damaged: dict[int, str] = {}
    before: CommittedStage | None = None
    for stage in snapshots.stages():
        try:
            verified = verify_stage(snapshots, stage, slot_schema(schema))
            if before is not None:
                _check_order(folder, before, verified.committed)
        except DistilledSetError as e:
            if stage in snapshots.stages():
                damaged[stage] = str(e)
            continue
        stages[stage] = verified
        before = verified.committed
    log = _verify_log(folder, slot_schema(schema), before)
    return VerifiedMemory(stages=stages, damaged=damaged, log=log)


def verify_stage(snapshots: Snapshots, stage: int, layout: pa.Schema) -> VerifiedStage:
    """Raises `DistilledSetError` naming the file, and the slot, that is wrong."""
    committed = snapshots.read(stage)
    where = f"{snapshots.folder}: stage {stage}"
    slots = snapshots.slots(committed)
    state = snapshots.state(committed)
    try:
        slots = canonical(slots, layout)
        check_slots(slots)
    except DistilledSetError as e:
        raise DistilledSetError(f"{where}: {e}") from None
    total_weight = float(slots["_weight"].to_numpy().sum())
    if not np.isclose(total_weight, committed.total_weight, rtol=WEIGHT_TOLERANCE, atol=0.0):
        raise DistilledSetError(
            f"{where}: its slots weigh {total_weight:g} where the commit says "
            f"{committed.total_weight:g}"
        )
    if next_slot(slots) > committed.next_slot:
        raise DistilledSetError(
            f"{where}: slot {next_slot(slots) - 1} where the commit says that numbers end below "
            f"{committed.next_slot}"
        )
    if slots.num_rows and slots["_birth_stage"].to_numpy().max() > stage:
        raise DistilledSetError(f"{where}: has slots of a later stage")
    if committed.sequence != len(committed.update_sha256):
        raise DistilledSetError(
            f"{where}: {len(committed.update_sha256)} updates where the commit says "
            f"{committed.sequence}"
        )
    return VerifiedStage(committed=committed, state=state)


def _check_order(folder: Folder, before: CommittedStage, after: CommittedStage) -> None:
    for name in ("epoch", "next_slot"):
        if getattr(after, name) < getattr(before, name):
            raise DistilledSetError(
                f"{folder}: stage {after.stage}: its {name} {getattr(after, name)} is below that "
                f"of stage {before.stage}, {getattr(before, name)}"
            )


def _verify_log(folder: Folder, layout: pa.Schema, last: CommittedStage | None) -> VerifiedLog:
    """An owner may replace segments while they are read: then once more."""
    log = WriteAheadLog(folder / "log", lambda name: None)
    for _ in range(_LOG_ATTEMPTS):
        names = log.segments()
        found = _read_log(log, layout, last)
        if found.problem is None or log.segments() == names:
            break
    return found


def _read_log(log: WriteAheadLog, layout: pa.Schema, last: CommittedStage | None) -> VerifiedLog:
    epoch = last.epoch if last else 0
    builds_on: int | None = None
    hashes: list[str] = []
    problem: str | None = None
    try:
        for segment in log.read():
            for payload in segment.records:
                message = unpack(payload)
                if message.epoch < epoch:
                    continue
                epoch = message.epoch
                if message.kind == "begin":
                    builds_on = message.extra.get("committed_stage")
                    hashes = []
                    continue
                Update.from_message(message, layout)
                if message.sha256 in hashes[message.sequence : message.sequence + 1]:
                    continue
                if message.sequence != len(hashes):
                    raise DistilledSetError(
                        f"{log.folder}: {message} where {len(hashes)} comes next: one was lost"
                    )
                hashes.append(message.sha256)
    except DistilledSetError as e:
        problem = str(e)
        log.take_over()
        epoch = max(epoch, log.number)
    return VerifiedLog(epoch=epoch, builds_on=builds_on, num_updates=len(hashes), problem=problem)
