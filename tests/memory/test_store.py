from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from diet_ray.data.schema import Field, Label, Schema, Timestamp
from diet_ray.errors import DistilledSetError, OutputError
from diet_ray.memory.snapshot import Snapshots, read_committed
from diet_ray.memory.store import CRASH_POINTS, MemoryStore
from diet_ray.memory.update import Commit, Update
from diet_ray.storage import Folder
from tests.memory.small_memory import Driver, click_schema, make_slots


class Crash(BaseException):
    """The process dies here."""


def crash_at(point: str, occurrence: int) -> Callable[[str], None]:
    hits = Counter[str]()

    def hook(name: str) -> None:
        hits[name] += 1
        if name == point and hits[name] == occurrence:
            raise Crash(name)

    return hook


def open_store(path: Path | Folder, hook: Callable[[str], None] = lambda name: None) -> MemoryStore:
    return MemoryStore(path, click_schema(), retention=1, on_crash_point=hook)


def content(store: MemoryStore) -> tuple[pa.Table, object]:
    """Slots as they are read back from storage, and the driver's state."""
    committed = read_committed(store.folder)
    assert committed is not None
    assert committed[1].equals(store.slots())
    return store.slots(), store.last_commit()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[pa.Table, object, Counter[str]]:
    """What a run leaves that nothing disturbs, and how often it passes every crash point."""
    hits = Counter[str]()
    store = open_store(tmp_path_factory.mktemp("undisturbed"), lambda name: hits.update([name]))
    Driver().run(store)
    slots, state = content(store)
    store.close()
    return slots, state, hits


def test_every_crash_point_is_passed(undisturbed: tuple[pa.Table, object, Counter[str]]) -> None:
    assert set(undisturbed[2]) == set(CRASH_POINTS)


@pytest.mark.parametrize("point", CRASH_POINTS)
@pytest.mark.parametrize("who", ["driver and memory die", "memory dies, driver sends again"])
def test_a_crash_anywhere_changes_nothing(
    point: str,
    who: str,
    tmp_path: Path,
    undisturbed: tuple[pa.Table, object, Counter[str]],
) -> None:
    slots, state, hits = undisturbed
    for occurrence in {1, hits[point] // 2 + 1, hits[point]}:
        path = tmp_path / str(occurrence)
        store = open_store(path, crash_at(point, occurrence))
        if who == "driver and memory die":
            with pytest.raises(Crash):
                Driver().run(store)
            store.close()
            store = open_store(path)
            Driver().run(store, "another driver")
        else:
            restarting = RestartingStore(path, store)
            Driver().run(restarting)
            store = restarting.store
            assert restarting.restarts == 1
        again, state_again = content(store)
        assert again.equals(slots)
        assert state_again == state
        store.close()


class RestartingStore:
    """A memory whose process is started again when it dies; the call under way is then repeated."""

    def __init__(self, path: Path, store: MemoryStore) -> None:
        self.path = path
        self.store = store
        self.restarts = 0

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*args: object) -> object:
            try:
                return getattr(self.store, name)(*args)
            except Crash:
                self.restarts += 1
                self.store.close()
                self.store = open_store(self.path)
                return getattr(self.store, name)(*args)

        return call


@pytest.mark.parametrize("point", ["apply.after-log", "snapshot.after-slots", "log.after-segment"])
def test_a_killed_process_loses_nothing(
    point: str, tmp_path: Path, undisturbed: tuple[pa.Table, object, Counter[str]]
) -> None:
    program = f"""
import os, signal
from tests.memory.small_memory import Driver, click_schema
from diet_ray.memory.store import MemoryStore
hits = 0
def hook(name):
    global hits
    hits += name == {point!r}
    if hits == 2:
        os.kill(os.getpid(), signal.SIGKILL)
Driver().run(MemoryStore({str(tmp_path)!r}, click_schema(), retention=1, on_crash_point=hook))
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2])
    assert ended.returncode == -signal.SIGKILL
    with closing(open_store(tmp_path)) as store:
        Driver().run(store, "another driver")
        assert content(store) == undisturbed[:2]


def test_equal_runs_leave_equal_files(
    tmp_path: Path, undisturbed: tuple[pa.Table, object, Counter[str]]
) -> None:
    for name in ("a", "b"):
        with closing(open_store(tmp_path / name)) as store:
            Driver().run(store)
    one, other = (
        {
            p.relative_to(tmp_path / n): p.read_bytes()
            for p in (tmp_path / n / "stages").rglob("*.*")
        }
        for n in ("a", "b")
    )
    assert one == other
    assert len(one) == 3


def test_a_resumed_run_leaves_the_files_of_an_undisturbed_one(tmp_path: Path) -> None:
    with closing(open_store(tmp_path / "a")) as store:
        Driver().run(store)
    for num_stages in (1, 2, 3):
        with closing(open_store(tmp_path / "b")) as store:
            Driver(num_stages=num_stages).run(store, f"driver {num_stages}")
    one, other = (tmp_path / n / "stages" / "00002" / "slots.parquet" for n in ("a", "b"))
    assert one.read_bytes() == other.read_bytes()


def test_any_pyarrow_filesystem_will_do(
    tmp_path: Path, undisturbed: tuple[pa.Table, object, Counter[str]]
) -> None:
    remote = Folder(pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "team/memory")
    assert not remote.is_local
    store = open_store(remote, crash_at("apply.before-ack", 5))
    with pytest.raises(Crash):
        Driver().run(store)
    with closing(open_store(remote)) as store:
        assert store.position.next_sequence == 2
        Driver().run(store, "another driver")
        assert content(store) == undisturbed[:2]


def update(epoch: int = 1, stage: int = 0, sequence: int = 0, n: int = 3, first: int = 0) -> Update:
    added = make_slots(n, first_slot=first, stage=stage)
    return Update(epoch=epoch, stage=stage, sequence=sequence, added=added)


def commit(epoch: int = 1, stage: int = 0, sequence: int = 1, state: bytes = b"s") -> Commit:
    return Commit(epoch=epoch, stage=stage, sequence=sequence, state={"proxy": state})


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    store = open_store(tmp_path / "memory")
    store.begin("driver")
    return store


def test_a_message_sent_twice_is_applied_once(store: MemoryStore) -> None:
    first = store.apply(update())
    again = store.apply(update())
    assert not first.repeated
    assert again.repeated
    assert again.sha256 == first.sha256
    assert store.slots().num_rows == 3
    store.commit(commit())
    assert store.commit(commit()).repeated
    assert store.apply(update()).repeated
    assert store.slots().num_rows == 3
    assert store.slots()["_age"].to_pylist() == [0, 0, 0]


def test_another_message_under_the_same_number_is_refused(store: MemoryStore) -> None:
    store.apply(update())
    with pytest.raises(DistilledSetError, match="another one was acknowledged under its number"):
        store.apply(update(n=2))
    with pytest.raises(DistilledSetError, match="another one was acknowledged under its number"):
        store.commit(commit(sequence=0))
    store.commit(commit())
    with pytest.raises(DistilledSetError, match="stage 0 is committed"):
        store.commit(commit(state=b"other"))
    with pytest.raises(DistilledSetError, match="stage 0 is committed"):
        store.apply(update(n=2))


def test_a_gap_is_refused(store: MemoryStore) -> None:
    with pytest.raises(DistilledSetError, match="0 comes next, so one was lost"):
        store.apply(update(sequence=1))
    store.apply(update())
    with pytest.raises(DistilledSetError, match="stage 0 isn't committed yet"):
        store.apply(update(stage=1, first=3))
    with pytest.raises(DistilledSetError, match="1 comes next, so one was lost"):
        store.commit(commit(sequence=2))
    store.commit(commit())
    with pytest.raises(DistilledSetError, match="0 comes next"):
        store.apply(update(stage=1, sequence=1, first=3))
    with pytest.raises(DistilledSetError, match="is committed"):
        store.commit(commit(stage=-0, sequence=0, state=b"x"))


def test_what_breaks_an_invariant_is_refused_and_not_logged(store: MemoryStore) -> None:
    store.apply(update())
    with pytest.raises(DistilledSetError, match="slot 2: its number was used before"):
        store.apply(update(sequence=1, first=2))
    with pytest.raises(DistilledSetError, match="slot 9: can't remove it"):
        store.apply(Update(epoch=1, stage=0, sequence=1, removed=np.array([9])))
    store.close()
    store = open_store(store.folder)
    assert store.position.next_sequence == 1
    assert store.slots().num_rows == 3


def test_numbers_of_removed_slots_are_never_used_again(store: MemoryStore) -> None:
    store.apply(update())
    store.apply(Update(epoch=1, stage=0, sequence=1, removed=np.array([1, 2])))
    store.commit(commit(sequence=2))
    store.close()
    store = open_store(store.folder)
    assert store.position.next_slot == 3
    store.begin("next")
    with pytest.raises(DistilledSetError, match="slot 2: its number was used before"):
        store.apply(update(epoch=2, stage=1, first=2))


def test_a_new_driver_shuts_out_the_old_one_and_drops_what_it_didn_t_commit(
    store: MemoryStore,
) -> None:
    store.apply(update())
    position = store.begin("second driver")
    assert (position.epoch, position.next_sequence, position.num_slots) == (2, 0, 0)
    assert position.committed_stage is None
    for call in (lambda: store.apply(update(sequence=1, first=3)), lambda: store.commit(commit())):
        with pytest.raises(DistilledSetError, match="driver 2 has taken over"):
            call()
    # Saying it again, as a retried call does, must not throw away what was acknowledged since.
    store.apply(update(epoch=2))
    assert store.begin("second driver").next_sequence == 1
    store.close()
    store = open_store(store.folder)
    with pytest.raises(DistilledSetError, match="driver 2 has taken over"):
        store.commit(commit())
    with pytest.raises(DistilledSetError, match="which hasn't begun"):
        store.commit(commit(epoch=3))


def test_updates_of_a_killed_memory_are_there_when_it_opens_again(store: MemoryStore) -> None:
    store.apply(update())
    before = store.slots()
    store.close()
    again = open_store(store.folder)
    assert again.slots().equals(before)
    assert again.position == store.position
    assert read_committed(again.folder) is None


def test_two_owners_of_one_folder_are_refused(store: MemoryStore) -> None:
    with pytest.raises(DistilledSetError, match=f"in use by process {os.getpid()} on "):
        open_store(store.folder)
    store.close()
    open_store(store.folder).close()


def test_a_memory_that_isn_t_there_or_is_for_another_schema(
    tmp_path: Path, store: MemoryStore
) -> None:
    with pytest.raises(DistilledSetError, match=r"memory\.json: no such file"):
        MemoryStore(tmp_path / "none")
    other = Schema(
        timestamp=Timestamp(column="t"),
        label=Label(column="y"),
        fields=(Field(name="item", kind="categorical"),),
    )
    with pytest.raises(DistilledSetError, match=r"memory\.json: the memory is for another schema"):
        MemoryStore(store.folder, other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "can't be read"),
        ("[]", "expected a JSON object"),
        ('{"format_version": 3, "identity": "x", "schema": {}}', "format version 3, .* 1 and 2"),
        ('{"format_version": 2, "identity": "x", "schema": {}}', "match its own checksum"),
        ('{"format_version": 1, "schema": {}}', "`identity` is missing"),
        ('{"format_version": 1, "identity": "x", "schema": {"label": 3}}', "schema|label|missing"),
    ],
)
def test_a_broken_memory_file_is_named(text: str, message: str, store: MemoryStore) -> None:
    store.close()
    Path(store.folder.path, "memory.json").write_text(text)
    with pytest.raises(DistilledSetError, match=rf"memory\.json.*({message})"):
        MemoryStore(store.folder)


def test_retention_keeps_the_last_stages(tmp_path: Path) -> None:
    store = MemoryStore(tmp_path, click_schema(), retention=2)
    Driver(num_stages=4).run(store)
    assert sorted(p.name for p in (tmp_path / "stages").iterdir()) == ["00002", "00003"]
    assert Snapshots(store.folder / "stages").stages() == [2, 3]


def test_damage_of_a_committed_stage_is_named_and_never_passed_over(tmp_path: Path) -> None:
    store = MemoryStore(tmp_path, click_schema())
    Driver().run(store)
    expected = store.slots()
    store.close()
    for name in ("slots.parquet", "state/counter", "commit.json"):
        path = tmp_path / "stages" / "00002" / name
        good = path.read_bytes()
        path.write_bytes(good[:-1] + b"#")
        with pytest.raises(DistilledSetError, match=f"00002/{name}.*goes back to stage 1"):
            MemoryStore(tmp_path).last_commit()
        path.write_bytes(good)
    with closing(open_store(Folder.at(tmp_path))) as again:
        assert again.slots().equals(expected)


def test_going_back_a_stage_by_removing_its_folder(
    tmp_path: Path, undisturbed: tuple[pa.Table, object, Counter[str]]
) -> None:
    store = MemoryStore(tmp_path, click_schema())
    Driver().run(store)
    store.apply(update(stage=3, first=store.position.next_slot))
    store.close()
    shutil.rmtree(tmp_path / "stages" / "00002")
    with closing(MemoryStore(tmp_path)) as store:
        assert (store.position.committed_stage, store.position.open_stage) == (1, None)
        Driver().run(store, "another driver")
        assert content(store) == undisturbed[:2]


def test_slots_age_with_every_commit(
    undisturbed: tuple[pa.Table, object, Counter[str]],
) -> None:
    slots = undisturbed[0]
    assert slots["_age"].to_pylist() == [2 - b for b in slots["_birth_stage"].to_pylist()]
    assert set(slots["_birth_stage"].to_pylist()) == {0, 1, 2}


def test_a_stage_without_commit_is_no_stage(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store:
        Driver().run(store)
    leftover = tmp_path / "stages" / "00003"
    leftover.mkdir()
    (leftover / "slots.parquet").write_bytes(b"half")
    (tmp_path / "stages" / ".tmp-1").write_bytes(b"")
    committed = read_committed(Folder.at(tmp_path))
    assert committed is not None
    assert committed[0].stage == 2
    open_store(tmp_path).close()
    assert [p.name for p in (tmp_path / "stages").iterdir()] == ["00002"]


def test_a_reader_that_is_overtaken_sees_the_stage_that_overtook_it(tmp_path: Path) -> None:
    class Overtaken(Folder):
        def names(self) -> list[str]:
            listed = super().names()
            if listed == ["00001"]:
                Driver(num_stages=4).run(store)
            return listed

    with closing(open_store(tmp_path)) as store:
        Driver(num_stages=2).run(store)
        stages = Overtaken(store.folder.filesystem, store.folder.path_of("stages"))
        assert Snapshots(stages).stages() == [3]


def test_any_parquet_reader_opens_a_committed_stage(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store:
        Driver().run(store)
        table = pq.read_table(tmp_path / "stages" / "00002" / "slots.parquet")
        assert table.equals(store.slots())
    described = json.loads((tmp_path / "stages" / "00002" / "commit.json").read_text())
    assert described["num_slots"] == table.num_rows
    assert described["total_weight"] == table["_weight"].to_numpy().sum()


def test_a_full_disk_refuses_the_commit_and_keeps_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    Driver(num_stages=1).run(store)
    store.apply(update(stage=1, first=6))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("diet_ray.storage._sync_file", full)
    with pytest.raises(OutputError, match=r"slots\.parquet: can't be written: No space left"):
        store.commit(commit(stage=1))
    monkeypatch.undo()
    assert store.last_commit() is not None
    committed = read_committed(store.folder)
    assert committed is not None
    assert committed[0].stage == 0
    assert not store.commit(commit(stage=1)).repeated


def test_opening_doesn_t_need_torch() -> None:
    program = (
        "import diet_ray.memory.store, diet_ray.storage, sys; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
