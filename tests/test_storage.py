from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from diet_ray import storage
from diet_ray.errors import DataError, OutputError
from diet_ray.storage import AppendFile, Folder, LockFile, parquet_from_table, table_from_parquet


@pytest.fixture(params=["local", "subtree", "uri"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return Folder.at(tmp_path / "out")
    if request.param == "uri":
        return Folder.at(f"file://{tmp_path}/out")
    return Folder(pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "out")


def test_write_read_list_delete(folder: Folder) -> None:
    assert not folder.exists()
    assert folder.names() == []
    folder.write("b", b"1")
    folder.write("a/deep/c", b"2")
    folder.write("b", b"34")
    assert folder.names() == ["a", "b"]
    assert folder.read("b") == b"34"
    assert folder.size("b") == 2
    assert (folder / "a" / "deep").read("c") == b"2"
    folder.delete("a")
    folder.delete("missing")
    assert folder.names() == ["b"]
    with pytest.raises(FileNotFoundError):
        folder.read("a/deep/c")
    with pytest.raises(FileNotFoundError):
        folder.size("a")


@pytest.mark.parametrize("name", ["..", "../x", "a/../../x", "/etc/passwd", "", "a\0"])
def test_a_name_can_t_leave_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no name inside this folder"):
        Folder.at(tmp_path).write(name, b"")


def test_a_failed_write_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder.at(tmp_path)
    folder.write("file", b"old")

    def fail(path: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "_sync_file", fail)
    with pytest.raises(OutputError, match="file: can't be written: No space left on device"):
        folder.write("file", b"new")
    assert folder.read("file") == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_readers_see_one_whole_content_or_the_other(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    contents = [bytes([i]) * 100_000 for i in range(2)]
    folder.write("file", contents[0])
    ended = threading.Event()
    seen: set[bytes] = set()
    errors: list[BaseException] = []

    def read() -> None:
        try:
            while not ended.is_set():
                seen.add(folder.read("file"))
        except BaseException as e:
            errors.append(e)

    reader = threading.Thread(target=read)
    reader.start()
    deadline = time.monotonic() + 60
    for i in itertools.count():
        folder.write("file", contents[i % 2])
        enough = i >= 50 and len(seen) > 1
        if enough or errors or time.monotonic() > deadline:
            break
    ended.set()
    reader.join()
    assert not errors
    assert seen == set(contents)


def test_leftovers_of_a_killed_writer_are_hidden_and_removed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-123").write_bytes(b"half")
    folder = Folder.at(tmp_path)
    assert folder.names() == []
    folder.delete_temporaries()
    assert os.listdir(tmp_path) == []


def test_a_place_that_can_t_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="file/x: can't be written"):
        Folder.at(tmp_path / "file").write("x", b"")
    with pytest.raises(OutputError, match="nowhere://x: not a folder"):
        Folder.at("nowhere://x")


def test_tables(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    table = pa.table({"a": [1, 2], "b": pa.array([[1], [2]], pa.list_(pa.int32(), 1))})
    folder.write_table("t.parquet", table)
    assert folder.read_table("t.parquet").equals(table)
    assert folder.read_table("t.parquet", ["a"]).equals(table.select(["a"]))
    assert table_from_parquet(parquet_from_table(table)).equals(table)
    assert parquet_from_table(table) == parquet_from_table(table)
    with pytest.raises(DataError, match=r"missing\.parquet: no such file"):
        folder.read_table("missing.parquet")
    whole = folder.read("t.parquet")
    folder.write("t.parquet", whole[:-9])
    with pytest.raises(DataError, match=r"t\.parquet: can't be read: Parquet magic bytes"):
        folder.read_table("t.parquet")


def test_append_file_grows_and_is_cut(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"ab")
    file = AppendFile(str(tmp_path / "log"))
    file.append([b"cd", b"", b"e"])
    assert (tmp_path / "log").read_bytes() == b"abcde"
    file.truncate(3)
    file.append([b"x"])
    file.close()
    assert (tmp_path / "log").read_bytes() == b"abcx"


def test_a_lock_says_who_holds_it_and_ends_with_its_file(tmp_path: Path) -> None:
    path = str(tmp_path / "deep" / "lock")
    first = LockFile(path, "process 1 on here")
    with pytest.raises(BlockingIOError, match="process 1 on here"):
        LockFile(path, "process 2")
    first.release()
    LockFile(path, "process 2").release()
    assert Path(path).read_text() == "process 2\n"


def test_of_an_upload_that_failed_nothing_is_left(tmp_path: Path) -> None:
    from tests.chaos.faults import Fault
    from tests.chaos.filesystem import FaultyStore

    for kind in ("torn", "lie"):
        (tmp_path / kind).mkdir()
        store = FaultyStore(tmp_path / kind, "s3", [Fault(operation=1, kind=kind)])  # type: ignore[arg-type]
        folder = Folder(pafs.PyFileSystem(store), "bucket")
        assert folder.is_object_store
        with pytest.raises(OutputError, match="file: can't be written: "):
            folder.write_new("file", b"123456")
        assert folder.names() == []
        folder.write_new("file", b"123456")
        assert folder.read("file") == b"123456"


def test_a_file_is_durable_with_the_names_of_all_folders_up_to_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash of the machine may forget a name whose folder wasn't synced after it came."""
    synced: list[str] = []
    fsync = os.fsync

    def remember(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", remember)
    folder = Folder.at(tmp_path / "memory") / "stages" / "00000"
    folder.write("state/proxy", b"weights")
    # The file under its temporary name, then upwards.
    names = ("memory/stages/00000/state", "memory/stages/00000", "memory/stages", "memory", "")
    assert synced[1:] == [str(tmp_path / name) for name in names]


def test_a_file_that_cannot_be_cut_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").write_bytes(b"abc")
    file = AppendFile(str(tmp_path / "log"))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"log: can't be cut: No space left on device"):
        file.truncate(1)
    file.close()


def test_a_parent_that_may_not_be_listed_is_no_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    sync = storage._sync_file

    def refuse(path: str) -> None:
        if path == str(tmp_path):
            raise PermissionError("permission denied")
        sync(path)

    monkeypatch.setattr(storage, "_sync_file", refuse)
    Folder.at(tmp_path / "mine").write("a", b"content")
    assert (tmp_path / "mine" / "a").read_bytes() == b"content"
    with pytest.raises(OutputError, match="permission denied"):
        Folder.at(tmp_path).write("a", b"content")
