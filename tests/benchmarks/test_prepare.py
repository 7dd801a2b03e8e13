"""That the files which preparing is measured on are what the adapters take for published ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import prepare
from benchmarks.preparing.raw_files import write_behavior, write_kuairand
from tests.data.sources.public.prepared import prepared


def test_generated_files_are_recognised_and_have_the_traps(tmp_path: Path) -> None:
    (tmp_path / "kuairand").mkdir()
    write_kuairand(tmp_path / "kuairand", 5_000)
    log = prepared(tmp_path / "kuairand", tmp_path / "a")
    assert log.made.num_rows == 5_000
    assert None in log.column("is_live_streamer")
    assert "(10,50]" in log.column("fans_user_num_range")
    assert len(log.made.files) == 31
    path = tmp_path / "behavior"
    write_behavior(path, 300_000)
    log = prepared(path, tmp_path / "b", label="buy")
    assert log.made.dropped["exact duplicates of another row"] > 0
    assert log.made.dropped["rows outside 2017-11-25 to 2017-12-03"] > 0


def test_a_part_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--rows", "20000", "--cores", "1", "--parts", "userbehavior", "--json"]
    monkeypatch.setattr("sys.argv", ["prepare", *arguments, "--folder", str(tmp_path)])
    monkeypatch.setattr(prepare, "use_cores", lambda n: None)
    prepare.main()
    found = json.loads(capsys.readouterr().out)["userbehavior"]
    assert found["num_rows_read"] == 20_000
    assert found["rows_per_s"] > 0
    assert found["cpu_s"] > 0
    assert found["num_cores"] == 1
