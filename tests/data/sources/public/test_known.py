"""Telling logs apart, and saying what is wrong where that can't be done."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from diet_ray.data.sources.public import known
from diet_ray.errors import ConfigError, DataError
from tests.data.sources.public.prepared import write

BEHAVIOR = "1,2268318,2520377,pv,1511544070"
RATINGS = ("userId,movieId,rating,timestamp", "1,2,3.5,1112486027")


def test_a_file_of_another_log_is_named(tmp_path: Path) -> None:
    raw = write(tmp_path / "log_standard_pure.csv", BEHAVIOR)
    starts = known.starts_of(str(raw))
    with pytest.raises(DataError, match="is of taobao-behavior, not of kuairand"):
        known.sort_files(known.ADAPTERS["kuairand"], starts)
    assert known.recognise(starts).name == "taobao-behavior"


def test_unknown_files_are_left_out_or_refused(tmp_path: Path) -> None:
    write(tmp_path / "raw" / "a.csv", *RATINGS)
    write(tmp_path / "raw" / "notes.txt", "call the plumber")
    files, remarks = known.sort_files(
        known.ADAPTERS["movielens"], known.starts_of(str(tmp_path / "raw"))
    )
    assert set(files) == {"log"}
    assert any("notes.txt: isn't of movielens; left out" in r for r in remarks)
    starts = known.starts_of(str(tmp_path / "raw" / "notes.txt"))
    with pytest.raises(DataError, match="not a log that is known; `diet prepare --infer FILE`"):
        known.recognise(starts)
    with pytest.raises(DataError, match="holds no events of movielens; it begins with 'call the"):
        known.sort_files(known.ADAPTERS["movielens"], starts)


def test_two_logs_in_one_folder_must_be_told_apart(tmp_path: Path) -> None:
    write(tmp_path / "a", BEHAVIOR)
    write(tmp_path / "b", *RATINGS)
    with pytest.raises(DataError, match="files of taobao-behavior, movielens; name one"):
        known.recognise(known.starts_of(str(tmp_path)))


def test_archives_must_be_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "data_format1.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", BEHAVIOR)
    with pytest.raises(DataError, match="is a zip archive; unpack it first"):
        known.starts_of(str(path))


def test_a_misspelt_source_is_put_right() -> None:
    with pytest.raises(ConfigError, match="no source `kuairnd`; did you mean `kuairand`"):
        known.adapter("kuairnd")


@pytest.mark.parametrize("name", sorted(known.ADAPTERS))
def test_every_log_is_documented(name: str) -> None:
    adapter = known.ADAPTERS[name]
    for part in ("Files:", "Label:", "Split", "Features:", "History:", "Traps:", "Published"):
        assert part in adapter.about or (name == "tmall" and part == "Files:"), part
    assert adapter.title.endswith(".")
