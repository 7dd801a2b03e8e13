"""A write-ahead log cut after every byte, and every byte of it flipped, and then opened.

`python -m tests.chaos.log_damage` does it to all bytes of a log with a beginning and three updates,
on a local disk (one segment) and elsewhere (a segment a record), and prints the outcomes.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.fs as pafs

from diet_ray.errors import DistilledSetError
from diet_ray.memory.store import MemoryStore
from diet_ray.storage import Folder
from tests.chaos.faults import Violation
from tests.memory.small_memory import Driver, click_schema

Place = Literal["local disk", "elsewhere"]
Damage = Literal["cut", "flipped"]


def place(folder: Path, where: Place) -> Folder:
    if where == "local disk":
        return Folder.at(folder / "memory")
    return Folder(pafs.SubTreeFileSystem(str(folder), pafs.LocalFileSystem()), "memory")


def write_memory(folder: Path, where: Place) -> list[pa.Table]:
    """A memory whose first stage is open; the slots after none, one, two and three updates."""
    store = MemoryStore(place(folder, where), click_schema())
    epoch = store.begin("driver").epoch
    states = [store.slots()]
    for sequence in range(3):
        next_slot = store.position.next_slot
        store.apply(Driver.update(store.slots(), epoch, 0, sequence, next_slot))
        states.append(store.slots())
    store.close()
    return states


def outcomes(folder: Path, where: Place, damage: Damage, stride: int = 1) -> Counter[str]:
    """How often the memory went on at which update, or refused. `folder` is empty.

    Raises `Violation` if what it goes on with isn't what some update left.
    """
    states = write_memory(folder, where)
    sound = folder / "sound"
    (folder / "memory").rename(sound)
    found: Counter[str] = Counter()
    for segment in sorted((sound / "log").iterdir()):
        content = segment.read_bytes()
        for position in range(0, len(content), stride):
            shutil.copytree(sound, folder / "memory")
            damaged = bytearray(content)
            if damage == "flipped":
                damaged[position] ^= 1 << (position % 8)
            else:
                del damaged[position:]
            (folder / "memory" / "log" / segment.name).write_bytes(damaged)
            found[_opened(place(folder, where), states, segment.name)] += 1
            shutil.rmtree(folder / "memory")
    return found


def _opened(memory: Folder, states: list[pa.Table], segment: str) -> str:
    try:
        store = MemoryStore(memory)
    except DistilledSetError as e:
        # A segment whose upload was cut was never acknowledged, nor anything after it.
        if segment not in str(e) and "one was lost" not in str(e):
            raise Violation(f"refused without a name: {e}") from None
        return "refused by name"
    try:
        number = store.position.next_sequence
        if not store.slots().equals(states[number]):
            raise Violation(f"after {number} updates: slots that no update has left")
        return f"recovered to update {number}"
    finally:
        store.close()


def main() -> int:
    report = {}
    for where in ("local disk", "elsewhere"):
        for damage in ("cut", "flipped"):
            with tempfile.TemporaryDirectory() as folder:
                report[f"{where}, {damage}"] = outcomes(Path(folder), where, damage)  # type: ignore[arg-type]
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
