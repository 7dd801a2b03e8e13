"""One owner at a time: by a lock on a local disk, by a mark elsewhere."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from diet_ray.errors import DistilledSetError
from diet_ray.memory import ownership
from diet_ray.memory.ownership import own
from diet_ray.memory.snapshot import Snapshots
from diet_ray.memory.store import MemoryStore
from diet_ray.memory.update import Update, pack
from diet_ray.memory.write_ahead_log import WriteAheadLog
from diet_ray.storage import Folder
from tests.memory.small_memory import Driver, click_schema, make_slots


@pytest.fixture
def place(tmp_path: Path) -> Folder:
    """A memory's folder elsewhere than on a local disk."""
    return Folder(pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "memory")


def test_an_owner_waits_for_the_one_before_as_long_as_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder.at(tmp_path)
    first = own(folder, timeout_s=0.0)
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        if now > 1:
            first.release()

    clock = SimpleNamespace(monotonic=lambda: now, sleep=sleep)
    monkeypatch.setattr(ownership, "time", clock)
    with pytest.raises(DistilledSetError, match="in use by process"):
        own(folder, timeout_s=0.5)
    own(folder, timeout_s=2.0).release()


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


def test_two_writers_elsewhere_replace_none_of_each_other_s_segments(place: Folder) -> None:
    first = WriteAheadLog(place, lambda name: None)
    first.restart(b"beginning")
    second = WriteAheadLog(place, lambda name: None)
    assert list(second.replay()) == [b"beginning"]
    first.append(b"late")
    second.append(b"counts")
    third = WriteAheadLog(place, lambda name: None)
    assert sorted(third.replay()) == [b"beginning", b"counts", b"late"]


def test_a_late_file_of_a_stage_replaces_none_that_counts(place: Folder) -> None:
    class Replaced(Exception):
        pass

    def stop(name: str) -> None:
        if name == "snapshot.after-state":
            raise Replaced

    def write(snapshots: Snapshots, slots: pa.Table) -> None:
        snapshots.write(
            slots,
            {"proxy": bytes(slots.num_rows)},
            epoch=1,
            stage=0,
            sequence=0,
            content_hash="",
            update_hashes=(),
            next_slot=9,
            total_weight=1.0,
        )

    kept = make_slots(4)
    snapshots = Snapshots(place)
    write(snapshots, kept)
    with pytest.raises(Replaced):
        write(Snapshots(place, on_crash_point=stop), make_slots(9, seed=1))
    committed = snapshots.read(0)
    assert snapshots.slots(committed).equals(kept)
    assert snapshots.state(committed) == {"proxy": bytes(4)}
