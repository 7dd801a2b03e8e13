from __future__ import annotations

import math
from pathlib import Path

import pytest

from diet_ray.doctor import storage
from diet_ray.storage import Folder


def test_a_folder_that_is_not_there_yet_is_tried_at_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SLOW_SYNC_S", math.inf)
    found = storage.storage(tmp_path / "a" / "b")
    assert found[0].status == "ok"
    assert str(tmp_path) in found[0].found
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Folder, name: str, content: bytes) -> None:
        raise PermissionError(f"{name}: permission denied")

    monkeypatch.setattr(Folder, "write", refuse)
    (only,) = storage.storage(tmp_path)
    assert only.status == "failure"
    assert "permission denied" in only.found


def test_slow_or_full_disks_are_warnings(tmp_path: Path) -> None:
    assert storage.speed(tmp_path, 2.0).status == "warning"
    assert storage.speed(tmp_path, 0.01).status == "ok"
    assert storage.room(tmp_path, 10**9).status == "warning"
    assert storage.room(tmp_path, 10**11).status == "ok"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "results.txt").touch()
    (only,) = storage.storage(tmp_path / "results.txt")
    assert only.status == "failure"
    assert "is a file" in only.found
