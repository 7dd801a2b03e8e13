"""One owner at a time: by a lock on a local disk, by a mark elsewhere."""

from __future__ import annotations

from pathlib import Path

import pyarrow.fs as pafs
import pytest

from diet_ray.errors import DistilledSetError
from diet_ray.memory.store import MemoryStore
from diet_ray.memory.update import Update, pack
from diet_ray.memory.write_ahead_log import WriteAheadLog
from diet_ray.storage import Folder
from tests.memory.small_memory import Driver, click_schema, make_slots


@pytest.fixture
def place(tmp_path: Path) -> Folder:
    """A memory's folder elsewhere than on a local disk."""
    return Folder(pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "memory")


def test_a_replaced_owner_elsewhere_is_refused(place: Folder) -> None:
    first = MemoryStore(place, click_schema())
    Driver(num_stages=1).run(first)
    second = MemoryStore(place, click_schema())
    with pytest.raises(DistilledSetError, match="taken over by process"):
        Driver(num_stages=2).run(first)
    Driver(num_stages=3).run(second, "second driver")
    assert second.position.committed_stage == 2


def test_what_a_replaced_owner_writes_late_changes_nothing(place: Folder) -> None:
    """Its segment has the number of one that the next owner writes, and is of an earlier driver."""
    first = MemoryStore(place, click_schema())
    first.begin("first driver")
    second = MemoryStore(place, click_schema())
    epoch = second.begin("second driver").epoch
    second.apply(Update(epoch=epoch, stage=0, sequence=0, added=make_slots(4)))
    before = second.slots()
    late = Update(epoch=epoch - 1, stage=0, sequence=0, added=make_slots(9, seed=1))
    log = WriteAheadLog(place / "log", lambda name: None)
    assert len(list(log.replay())) == 2
    log.append(late.to_bytes(before.schema))
    third = MemoryStore(place, click_schema())
    assert third.slots().equals(before)
    assert third.position == second.position


def test_a_late_begin_of_a_replaced_driver_takes_nothing_over(tmp_path: Path) -> None:
    store = MemoryStore(tmp_path, click_schema())
    store.begin("first driver")
    store.begin("second driver")
    store.close()
    store = MemoryStore(tmp_path, click_schema())
    with pytest.raises(DistilledSetError, match="driver 2 has taken over"):
        store.begin("first driver")
    assert store.begin("second driver").epoch == 2
    Driver(num_stages=1).run(store, "third driver")
    with pytest.raises(DistilledSetError, match="driver 3 has taken over"):
        store.begin("second driver")
    store.close()


def test_records_of_the_first_format_name_no_past_drivers(tmp_path: Path) -> None:
    store = MemoryStore(tmp_path, click_schema())
    store.close()
    log = WriteAheadLog(store.folder / "log", lambda name: None)
    position = Update(epoch=4, stage=0, sequence=0)
    log.restart(pack(position, "begin", {}, {"driver": "old", "committed_stage": None}))
    log.close()
    store = MemoryStore(tmp_path)
    assert store.begin("new").epoch == 5
    store.close()
