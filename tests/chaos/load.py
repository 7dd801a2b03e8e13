"""Readers and one writer at once: `python -m tests.chaos.load --seconds 300 --readers 8`.

The writer commits stages as fast as it can. Every slot of a stage carries the stage's number in its
weight, and a digest of the others in its key, so that a reader sees at once whether what it read is
one whole stage. Prints JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from diet_ray.memory.slots import next_slot, with_columns
from diet_ray.memory.snapshot import read_committed
from diet_ray.memory.store import MemoryStore
from diet_ray.memory.update import Commit, Update
from diet_ray.storage import Folder
from tests.chaos.faults import Violation
from tests.memory.small_memory import click_schema, make_slots

NUM_SLOTS = 2_000


def stamped(slots: pa.Table, stage: int) -> pa.Table:
    """Slots that say which stage they are of, and what all of them together are."""
    slots = with_columns(slots, {"_weight": np.full(slots.num_rows, stage + 1.0)})
    return with_columns(slots, {"_key": np.full(slots.num_rows, digest(slots))})


def digest(slots: pa.Table) -> float:
    """Of the columns that a commit leaves as they are."""
    content = hashlib.sha256()
    for name in ("_slot", "_weight", "_row", "user", "item", "price"):
        content.update(slots[name].to_numpy().tobytes())
    return float(int.from_bytes(content.digest()[:6], "big"))


def check(stage: int, slots: pa.Table) -> None:
    """Raises `Violation` if these aren't the slots of that stage, all of them."""
    if set(slots["_weight"].to_pylist()) != {stage + 1.0}:
        raise Violation(f"stage {stage}: slots of another stage are among its")
    if set(slots["_key"].to_pylist()) != {digest(slots)}:
        raise Violation(f"stage {stage}: torn")


def write(folder: Path, ended: Event, committed: Any) -> None:
    store = MemoryStore(folder, click_schema(), retention=2)
    epoch = store.begin("writer").epoch
    stage = 0
    while not ended.is_set():
        old = store.slots()
        new = make_slots(NUM_SLOTS, first_slot=store.position.next_slot, stage=stage)
        update = Update(
            epoch=epoch,
            stage=stage,
            sequence=0,
            added=stamped(new, stage),
            removed=old["_slot"].to_numpy(),
        )
        assert next_slot(new) == store.position.next_slot + NUM_SLOTS
        store.apply(update)
        store.commit(Commit(epoch=epoch, stage=stage, sequence=1, state={"stage": b"%d" % stage}))
        committed.value = stage
        stage += 1
    store.close()


def read(folder: Path, ended: Event, committed: Any, results: Any) -> None:
    """Reads until the end; says how often, and what was wrong."""
    place = Folder.at(folder)
    num_reads, seen, problem = 0, -1, None
    try:
        while not ended.is_set():
            acknowledged = committed.value
            found = read_committed(place)
            stage = -1 if found is None else found[0].stage
            if stage < max(acknowledged, seen):
                raise Violation(f"stage {stage} after {max(acknowledged, seen)} was committed")
            if found is not None:
                check(stage, found[1])
                num_reads += 1
            seen = stage
    except Exception as e:
        problem = f"{type(e).__name__}: {e}"
    results.put((num_reads, problem))


def run(folder: Path, seconds: float, num_readers: int) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    ended, committed, results = context.Event(), context.Value("i", -1), context.Queue()
    writer = context.Process(target=write, args=(folder, ended, committed))
    readers = [
        context.Process(target=read, args=(folder, ended, committed, results))
        for _ in range(num_readers)
    ]
    for process in (writer, *readers):
        process.start()
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s and writer.is_alive():
        time.sleep(0.1)
    # However slow the machine, there is something to report.
    while committed.value < 1 and writer.is_alive():
        time.sleep(0.1)
    ended.set()
    found = [results.get(timeout=300) for _ in readers]
    for process in (writer, *readers):
        process.join()
    return {
        "seconds": seconds,
        "readers": num_readers,
        "stages_committed": committed.value + 1,
        "stages_read": sum(num for num, _ in found),
        "torn": [problem for _, problem in found if problem is not None],
        "writer_failed": writer.exitcode != 0,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--readers", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder) / "memory", arguments.seconds, arguments.readers)
    print(json.dumps(found, indent=1))
    return bool(found["torn"] or found["writer_failed"])


if __name__ == "__main__":
    sys.exit(main())
