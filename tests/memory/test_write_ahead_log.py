from __future__ import annotations

import os
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from diet_ray.errors import DistilledSetError, OutputError
from diet_ray.memory.write_ahead_log import WriteAheadLog, scan
from diet_ray.storage import Folder

RECORDS = [b"first", b"", b"DWAL inside a record", bytes(range(256))]


def open_log(path: Path | Folder) -> WriteAheadLog:
    return WriteAheadLog(Folder.at(path), lambda name: None)


def written(path: Path | Folder) -> WriteAheadLog:
    log = open_log(path)
    log.restart(RECORDS[0])
    for record in RECORDS[1:]:
        log.append(record)
    log.close()
    return log


def segment(path: Path) -> Path:
    (found,) = path.iterdir()
    return found


@pytest.fixture(params=["local", "object store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """A local folder, and one on a filesystem that can't append."""
    if request.param == "local":
        return Folder.at(tmp_path / "log")
    return Folder(pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "log")


def test_replay_gives_every_record_in_order(folder: Folder) -> None:
    written(folder)
    assert list(open_log(folder).replay()) == RECORDS


def test_records_can_be_appended_after_a_replay(folder: Folder) -> None:
    written(folder)
    log = open_log(folder)
    assert list(log.replay()) == RECORDS
    log.append(b"later")
    assert list(open_log(folder).replay()) == [*RECORDS, b"later"]


def test_a_log_from_elsewhere_goes_on_on_a_local_disk(tmp_path: Path) -> None:
    written(Folder(pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "log"))
    log = open_log(tmp_path / "log")
    assert list(log.replay()) == RECORDS
    log.append(b"fifth")
    log.append(b"sixth")
    log.close()
    assert list(open_log(tmp_path / "log").replay()) == [*RECORDS, b"fifth", b"sixth"]


def test_restart_leaves_one_record(folder: Folder) -> None:
    log = written(folder)
    log.restart(b"anew")
    assert list(open_log(folder).replay()) == [b"anew"]
    assert len(folder.names()) == 1


def test_cut_at_any_byte_the_good_records_remain(tmp_path: Path) -> None:
    written(tmp_path / "log")
    content = segment(tmp_path / "log").read_bytes()
    ends = [scan(content[:n], "")[1] for n in range(len(content) + 1)]
    assert sorted(set(ends)) == [ends[0], *sorted(set(ends) - {0})]
    for n in range(len(content)):
        segment(tmp_path / "log").write_bytes(content[:n])
        log = open_log(tmp_path / "log")
        complete = len([e for e in set(ends) if 0 < e <= n])
        if complete == 0:
            with pytest.raises(DistilledSetError, match="damaged at byte 0"):
                list(log.replay())
            continue
        assert list(log.replay()) == RECORDS[:complete]
        log.append(b"more")
        log.close()
        assert list(open_log(tmp_path / "log").replay()) == [*RECORDS[:complete], b"more"]


def test_with_any_bit_flipped_nothing_wrong_is_replayed(tmp_path: Path) -> None:
    written(tmp_path / "log")
    path = segment(tmp_path / "log")
    content = path.read_bytes()
    last = len(content) - len(RECORDS[-1]) - 20
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << (position % 8)
        path.write_bytes(flipped)
        if position < last:
            # A good record follows, so what is broken can't be a torn end.
            with pytest.raises(DistilledSetError, match=f"{path.name}: damaged at byte"):
                list(open_log(tmp_path / "log").replay())
        else:
            assert list(open_log(tmp_path / "log").replay()) == RECORDS[:-1]


def test_a_torn_end_is_for_the_last_segment_only(tmp_path: Path) -> None:
    written(tmp_path / "log")
    first = segment(tmp_path / "log")
    first.write_bytes(first.read_bytes()[:-3])
    (tmp_path / "log" / "00000002.log").write_bytes(first.read_bytes())
    with pytest.raises(DistilledSetError, match=r"00000001\.log: damaged"):
        list(open_log(tmp_path / "log").replay())


def test_a_failed_append_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = written(tmp_path / "log")
    size = segment(tmp_path / "log").stat().st_size
    write = os.write

    def full_disk(descriptor: int, content: memoryview) -> int:
        if len(content) > 30:
            return write(descriptor, content[:30])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full_disk)
    with pytest.raises(OutputError, match=r"00000001\.log: can't be written: No space left"):
        log.append(b"x" * 100)
    assert segment(tmp_path / "log").stat().st_size == size
    monkeypatch.undo()
    log.append(b"fits")
    assert list(open_log(tmp_path / "log").replay()) == [*RECORDS, b"fits"]


def test_a_log_that_couldn_t_be_cut_back_takes_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = written(tmp_path / "log")

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    monkeypatch.setattr(os, "ftruncate", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        log.append(b"lost")
    monkeypatch.undo()
    with pytest.raises(OutputError, match="an earlier write failed"):
        log.append(b"after")
    # The record had reached the file; it was never acknowledged, and may or may not be replayed.
    assert list(open_log(tmp_path / "log").replay())[: len(RECORDS)] == RECORDS


def test_after_a_failed_restart_nothing_goes_into_the_old_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = written(tmp_path / "log")

    def fail(*_: object) -> None:
        raise OutputError("full")

    monkeypatch.setattr(Folder, "write", fail)
    with pytest.raises(OutputError):
        log.restart(b"anew")
    monkeypatch.undo()
    with pytest.raises(OutputError, match="begin again"):
        log.append(b"lost if acknowledged")
    log.restart(b"anew")
    log.append(b"kept")
    assert list(open_log(tmp_path / "log").replay()) == [b"anew", b"kept"]
