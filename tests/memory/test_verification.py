"""What is wrong with a memory is found and named; repair goes back to the last good stage."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from diet_ray.errors import DistilledSetError, OutputError
from diet_ray.memory.document import seal, unseal
from diet_ray.memory.repair import repair_memory
from diet_ray.memory.slots import with_columns
from diet_ray.memory.snapshot import Snapshots
from diet_ray.memory.store import MemoryStore
from diet_ray.memory.update import Update
from diet_ray.memory.verification import verify_memory
from diet_ray.storage import Folder, parquet_from_table, sha256
from tests.memory.small_memory import Driver, click_schema, make_slots

SCHEMA = click_schema()


@pytest.fixture(params=["local", "elsewhere"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """A memory with stages 1 and 2 kept, and one update of stage 3 in its log."""
    place = Folder.at(tmp_path / "memory")
    if request.param == "elsewhere":
        place = Folder(pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "memory")
    with closing(MemoryStore(place, SCHEMA, retention=2)) as store:
        Driver().run(store)
        position = store.position
        added = make_slots(2, first_slot=position.next_slot, stage=3)
        store.apply(Update(epoch=1, stage=3, sequence=0, added=added))
    return place


def undisturbed(tmp_path: Path) -> tuple[pa.Table, object]:
    with closing(MemoryStore(tmp_path / "undisturbed", SCHEMA)) as store:
        Driver(num_stages=4).run(store)
        return store.slots(), store.last_commit()


def resumed(folder: Folder) -> tuple[pa.Table, object]:
    with closing(MemoryStore(folder)) as store:
        Driver(num_stages=4).run(store, "later driver")
        return store.slots(), store.last_commit()


def rewrite_slots(folder: Folder, change: Callable[[pa.Table], pa.Table]) -> None:
    """Other slots in stage 2, whose checksums agree."""
    snapshots = Snapshots(folder / "stages")
    content = parquet_from_table(change(snapshots.slots(snapshots.read(2))))
    path = place(folder, "slots.parquet")
    folder.write(path, content)
    name = path.removeprefix("stages/00002/")
    rewrite_commit(folder, lambda c: c["files"].update({name: size_and_sum(content)}))


def rewrite_commit(folder: Folder, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    content = unseal(folder.read("stages/00002/commit.json"), "")
    change(content)
    folder.write("stages/00002/commit.json", seal(content))


def size_and_sum(content: bytes) -> list[object]:
    return [len(content), sha256(content)]


def heavier(slots: pa.Table) -> pa.Table:
    return with_columns(slots, {"_weight": slots["_weight"].to_numpy() * 1.01})


def negative(slots: pa.Table) -> pa.Table:
    return with_columns(slots, {"_weight": -slots["_weight"].to_numpy()})


def place(folder: Folder, name: str) -> str:
    """Where a file of stage 2 lies, whose name may have a mark."""
    stem, _, suffix = name.partition(".")
    parent, _, stem = f"stages/00002/{stem}".rpartition("/")
    (found,) = [n for n in (folder / parent).names() if n.split("@")[0].split(".")[0] == stem]
    assert found.endswith(suffix)
    return f"{parent}/{found}"


def flip(folder: Folder, name: str, position: int = -3) -> None:
    content = bytearray(folder.read(name))
    content[position] ^= 1
    folder.write(name, bytes(content))


DAMAGE: dict[str, tuple[Callable[[Folder], None], str]] = {
    "slots flipped": (
        lambda f: flip(f, place(f, "slots.parquet")),
        "doesn't match its checksum",
    ),
    "state missing": (lambda f: f.delete(place(f, "state/counter")), "no such file"),
    "state cut": (lambda f: f.write(place(f, "state/counter"), b""), "match its checksum"),
    "commit flipped": (lambda f: flip(f, "stages/00002/commit.json", 50), "00002/commit.json"),
    "weights": (lambda f: rewrite_slots(f, heavier), "its slots weigh"),
    "a slot": (lambda f: rewrite_slots(f, negative), "stage 2: slot 0: column `_weight`"),
    "a column": (lambda f: rewrite_slots(f, lambda s: s.drop_columns(["price"])), "`price` is mis"),
    "numbers": (
        lambda f: rewrite_commit(f, lambda c: c.update(next_slot=9)),
        "numbers end below 9",
    ),
    "epochs": (lambda f: rewrite_commit(f, lambda c: c.update(epoch=0)), "its epoch 0 is below"),
    "updates": (lambda f: rewrite_commit(f, lambda c: c.update(sequence=2)), "3 updates where"),
}


def test_a_good_memory_is_whole(folder: Folder) -> None:
    before = {p: Path(p).read_bytes() for p in files(folder)}
    found = verify_memory(folder, SCHEMA)
    assert found.problems == []
    assert list(found.stages) == [1, 2]
    assert (found.log.builds_on, found.log.num_updates, found.log.epoch) == (2, 1, 1)
    repaired = repair_memory(folder, SCHEMA)
    assert repaired.dropped == ()
    after = {p: Path(p).read_bytes() for p in files(folder)}
    for name in ("lock", "owner"):
        before = {p: c for p, c in before.items() if not p.endswith(name)}
        after = {p: c for p, c in after.items() if not p.endswith(name)}
    assert before == after


def files(folder: Folder) -> list[str]:
    top = folder.path
    if not folder.is_local:
        top = f"{folder.filesystem.base_path}/{folder.path}"
    return sorted(str(p) for p in Path(top).rglob("*") if p.is_file())


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_of_a_stage_is_named_and_dropped(
    damage: str, folder: Folder, tmp_path: Path
) -> None:
    apply, message = DAMAGE[damage]
    apply(folder)
    found = verify_memory(folder, SCHEMA)
    assert list(found.stages) == [1]
    assert message in found.damaged[2]
    repaired = repair_memory(folder, SCHEMA)
    assert repaired.last_good == 1
    assert "stage 2" in repaired.dropped[0]
    assert len(repaired.dropped) == 2, "the log builds on stage 2"
    assert (folder / "dropped" / "stages" / "00002").names()
    assert verify_memory(folder, SCHEMA).problems == []
    again, state = resumed(folder)
    expected, expected_state = undisturbed(tmp_path)
    assert again.equals(expected)
    assert state == expected_state


@pytest.mark.parametrize("position", [0, 30, 200])
def test_damage_of_the_log_is_named_and_costs_the_open_stage(
    position: int, folder: Folder, tmp_path: Path
) -> None:
    names = (folder / "log").names()
    flip(folder / "log", names[0], position)
    found = verify_memory(folder, SCHEMA)
    assert found.log.problem is not None
    assert f"{names[0]}: damaged at byte 0" in found.log.problem
    repaired = repair_memory(folder, SCHEMA)
    assert repaired.last_good == 2
    assert "damaged at byte 0" in repaired.dropped[0]
    assert (folder / "dropped" / "log").names() == names
    with closing(MemoryStore(folder)) as store:
        # The driver whose updates were dropped isn't taken for the next one.
        with pytest.raises(DistilledSetError, match="has taken over"):
            store.apply(Update(epoch=1, stage=3, sequence=1))
        assert store.begin("next").epoch > 1
    assert resumed(folder)[0].equals(undisturbed(tmp_path)[0])


def test_a_missing_segment_is_a_gap(tmp_path: Path) -> None:
    place = Folder(pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "memory")
    with closing(MemoryStore(place, SCHEMA)) as store:
        store.begin("driver")
        store.apply(Update(epoch=1, stage=0, sequence=0, added=make_slots(3)))
        store.apply(Update(epoch=1, stage=0, sequence=1, added=make_slots(3, first_slot=3)))
    place.delete(f"log/{(place / 'log').names()[1]}")
    found = verify_memory(place, SCHEMA)
    assert "update 1 of stage 0 where 0 comes next: one was lost" in str(found.log.problem)
    with pytest.raises(DistilledSetError, match="0 comes next, so one was lost"):
        MemoryStore(place)


def test_without_a_good_stage_nothing_is_dropped(folder: Folder) -> None:
    for stage in (1, 2):
        folder.delete(f"stages/{stage:05d}/state")
    before = files(folder)
    with pytest.raises(DistilledSetError, match="no stage is good: restore"):
        repair_memory(folder, SCHEMA)
    assert [f for f in files(folder) if not f.endswith(("lock", "owner"))] == [
        f for f in before if not f.endswith(("lock", "owner"))
    ]


def test_an_unfit_stage_goes_with_what_comes_after_it(tmp_path: Path) -> None:
    """Of stages 0, 1 and 2, the first is left."""
    folder = Folder.at(tmp_path / "memory")
    with closing(MemoryStore(folder, SCHEMA, retention=3)) as store:
        Driver().run(store)
    repaired = repair_memory(folder, SCHEMA, {1: "too many slots"})
    assert repaired.last_good == 0
    assert repaired.dropped[:2] == ("stage 1: too many slots", "stage 2: comes after stage 1")
    assert "builds on a stage that was dropped" in repaired.dropped[2]
    assert (folder / "dropped" / "stages").names() == ["00001", "00002"]
    assert list(verify_memory(folder, SCHEMA).stages) == [0]
    again, state = resumed(folder)
    expected, expected_state = undisturbed(tmp_path)
    assert again.equals(expected)
    assert state == expected_state


def test_an_unfit_last_stage_goes_alone(folder: Folder) -> None:
    repaired = repair_memory(folder, SCHEMA, {2: "too many slots"})
    assert repaired.last_good == 1
    assert repaired.dropped[0] == "stage 2: too many slots"
    assert list(verify_memory(folder, SCHEMA).stages) == [1]


def test_after_an_unfit_first_stage_none_is_good(folder: Folder) -> None:
    with pytest.raises(DistilledSetError, match="no stage is good: restore"):
        repair_memory(folder, SCHEMA, {1: "too many slots"})
    assert list(verify_memory(folder, SCHEMA).stages) == [1, 2]


def test_a_memory_in_use_isn_t_repaired(tmp_path: Path) -> None:
    with (
        closing(MemoryStore(tmp_path, SCHEMA)),
        pytest.raises(DistilledSetError, match="in use by"),
    ):
        repair_memory(Folder.at(tmp_path), SCHEMA)


def test_a_lost_identity_is_written_anew(folder: Folder, tmp_path: Path) -> None:
    flip(folder, "memory.json", 40)
    with pytest.raises(DistilledSetError, match=r"memory\.json"):
        MemoryStore(folder)
    assert "memory.json, written anew" in repair_memory(folder, SCHEMA).dropped[0]
    assert resumed(folder)[0].equals(undisturbed(tmp_path)[0])


def test_a_memory_of_format_1_is_read_and_goes_on(folder: Folder, tmp_path: Path) -> None:
    for name in ("memory.json", "stages/00001/commit.json", "stages/00002/commit.json"):
        content = unseal(folder.read(name), name)
        folder.write(name, json.dumps({"format_version": 1} | content).encode())
    assert verify_memory(folder, SCHEMA).problems == []
    assert resumed(folder)[0].equals(undisturbed(tmp_path)[0])


def test_storage_that_can_t_be_reached_is_no_damage(tmp_path: Path) -> None:
    with closing(MemoryStore(tmp_path / "memory", SCHEMA)) as store:
        Driver().run(store)

    class Denied(pafs.FSSpecHandler):
        def __init__(self) -> None:
            pass

        def get_type_name(self) -> str:
            return "denied"

        def normalize_path(self, path: str) -> str:
            return path

        def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
            raise PermissionError(13, "Access Denied")

        def get_file_info_selector(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
            raise PermissionError(13, "Access Denied")

        def open_input_stream(self, path: str) -> pa.NativeFile:
            raise PermissionError(13, "Access Denied")

    denied = Folder(pafs.PyFileSystem(Denied()), f"{tmp_path}/memory")
    for call in (
        lambda: verify_memory(denied, SCHEMA),
        lambda: MemoryStore(denied),
        lambda: Snapshots(denied / "stages").latest(),
    ):
        with pytest.raises(OutputError, match=r"storage can't be reached: .*Denied"):
            call()


def test_every_bit_of_a_sealed_document_counts() -> None:
    content = {"stage": 7, "total_weight": 12.5, "files": {"a": [1, "x"]}}
    sealed = seal(content)
    assert unseal(sealed, "commit.json") == content
    refused = 0
    for position in range(len(sealed)):
        for bit in range(8):
            flipped = bytearray(sealed)
            flipped[position] ^= 1 << bit
            try:
                assert unseal(bytes(flipped), "commit.json") == content
            except DistilledSetError:
                refused += 1
    # White space between tokens is all that may change unnoticed.
    assert refused > 0.95 * 8 * len(sealed)
