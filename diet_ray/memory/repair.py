"""Back to the last good stage. What is dropped is kept beside the memory, under `dropped/`.

A run that goes on from there distils the dropped stages again, to the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow.fs as pafs

from diet_ray.data.schema import Schema
from diet_ray.errors import DistilledSetError
from diet_ray.memory.ownership import own
from diet_ray.memory.snapshot import stage_name
from diet_ray.memory.store import MANIFEST, create_memory, read_identity
from diet_ray.memory.update import Update, pack
from diet_ray.memory.verification import VerifiedMemory, verify_memory
from diet_ray.memory.write_ahead_log import WriteAheadLog
from diet_ray.storage import Folder

DROPPED = "dropped"


@dataclass(frozen=True, kw_only=True)
class Repair:
    last_good: int | None
    """The stage that a run goes on after; None: at the beginning."""
    dropped: tuple[str, ...]
    """What was moved away, and why."""


def repair_memory(folder: Folder, schema: Schema, unfit: dict[int, str] | None = None) -> Repair:
    """Drops every damaged stage and a damaged log; does nothing where nothing is wrong.

    `unfit` are stages that are whole but can't be gone on from, with the reason; whatever comes
    after one goes with it. Raises `DistilledSetError` if the memory is in use, or if no stage is
    good: then nothing is dropped.
    """
    owner = own(folder, timeout_s=0.0)
    try:
        dropped = _renew_identity(folder, schema)
        memory = verify_memory(folder, schema)
        reasons = _to_drop(memory, unfit or {})
        good = [s for s in memory.stages if s not in reasons]
        if reasons and not good:
            raise DistilledSetError(
                f"{folder}: no stage is good: restore the memory from a copy, or distil again"
            )
        last_good = good[-1] if good else None
        for stage, reason in sorted(reasons.items()):
            _set_aside(folder, f"stages/{stage_name(stage)}")
            dropped.append(f"stage {stage}: {reason}")
        goes_back = any(last_good is None or stage > last_good for stage in reasons)
        if memory.log.problem is not None or goes_back:
            dropped.append(_drop_log(folder, memory, last_good))
        return Repair(last_good=last_good, dropped=tuple(dropped))
    finally:
        owner.release()


def _renew_identity(folder: Folder, schema: Schema) -> list[str]:
    """Writes a `memory.json` that can't be read anew: it holds nothing that can be lost."""
    try:
        found, _ = read_identity(folder)
    except DistilledSetError as e:
        _copy_aside(folder, MANIFEST)
        folder.delete(MANIFEST)
        create_memory(folder, schema)
        return [f"{MANIFEST}, written anew: {e}"]
    if found != schema:
        raise DistilledSetError(f"{folder}/{MANIFEST}: has another schema than the log")
    return []


def _to_drop(memory: VerifiedMemory, unfit: dict[int, str]) -> dict[int, str]:
    reasons = dict(memory.damaged) | unfit
    first = min(unfit, default=None)
    if first is not None:
        for stage in memory.stages:
            if stage > first:
                reasons.setdefault(stage, f"comes after stage {first}")
    return reasons


def _drop_log(folder: Folder, memory: VerifiedMemory, last_good: int | None) -> str:
    """The log begins anew, above every driver that it knew or may have known."""
    log = WriteAheadLog(folder / "log", lambda name: None)
    log.take_over()
    for name in log.segments():
        _copy_aside(folder, f"log/{name}")
    epoch = max(memory.log.epoch, log.number) + 1
    position = Update(epoch=epoch, stage=last_good or 0, sequence=0)
    extra: dict[str, Any] = {
        "driver": f"repair {epoch}",
        "past_drivers": [],
        "committed_stage": last_good,
    }
    log.restart(pack(position, "begin", {}, extra))
    log.close()
    reason = memory.log.problem or "builds on a stage that was dropped"
    return f"log, {memory.log.num_updates} updates of the open stage that can be read: {reason}"


def _set_aside(folder: Folder, name: str) -> None:
    """Moves a stage's folder; the file that makes it a stage goes first."""
    selector = pafs.FileSelector(folder.path_of(name), recursive=True)
    for info in folder.filesystem.get_file_info(selector):
        if info.type == pafs.FileType.File:
            _copy_aside(folder, f"{name}/{info.path.rpartition(f'{name}/')[2]}")
    folder.delete(f"{name}/commit.json")
    folder.delete(name)


def _copy_aside(folder: Folder, name: str) -> None:
    content = folder.find(name)
    if content is not None:
        folder.write(f"{DROPPED}/{name}", content)
