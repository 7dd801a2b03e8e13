"""Can a run live in a folder: writing, renaming, locking, and room."""

from __future__ import annotations

import shutil
import time
import uuid
from pathlib import Path

from diet_ray.doctor.finding import Finding, failure, ok, warning
from diet_ray.errors import DietError
from diet_ray.storage import Folder, LockFile

MIN_FREE_BYTES = 5 * 1024**3
SLOW_SYNC_S = 0.5
"""A stage syncs about twenty files."""
SUBJECT = "run folder"


def storage(path: Path) -> list[Finding]:
    """Tries it below `path`, or its nearest parent that exists, and leaves nothing behind."""
    place = path.absolute()
    if place.exists() and not place.is_dir():
        return [failure(SUBJECT, f"{place}: is a file", "choose a folder, or a name that is free")]
    while not place.is_dir():
        place = place.parent
    folder = Folder.at(place / f".diet-doctor-{uuid.uuid4().hex[:8]}")
    try:
        begin_s = time.perf_counter()
        folder.write("probe", b"diet")
        sync_s = time.perf_counter() - begin_s
        if folder.read("probe") != b"diet":
            return [failure(SUBJECT, f"{place}: reads back other bytes", "choose another disk")]
        LockFile(folder.path_of("lock"), "doctor").release()
    except (DietError, OSError) as e:
        return [failure(SUBJECT, f"{place}: {e}", "choose a folder that can be written and locked")]
    finally:
        shutil.rmtree(folder.path, ignore_errors=True)
    return [speed(place, sync_s), room(place, shutil.disk_usage(place).free)]


def speed(place: Path, sync_s: float) -> Finding:
    text = f"{place}: a synced write takes {1000 * sync_s:.0f} ms"
    if sync_s > SLOW_SYNC_S:
        return warning(SUBJECT, text, "every stage waits for some; a nearer disk is faster")
    return ok(SUBJECT, text)


def room(place: Path, free_bytes: int) -> Finding:
    text = f"{free_bytes / 1024**3:.1f} GiB free"
    if free_bytes < MIN_FREE_BYTES:
        advice = "a run holds its log encoded, about the size of its Parquet files: make room"
        return warning("disk", text, advice)
    return ok("disk", text)
