from __future__ import annotations

from pathlib import Path

import pytest
import ray

from tests.kuairand import write_config, write_log
from tests.test_cli import diet, refused


def test_nothing_is_started_or_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError("a dry run needs no cluster")

    monkeypatch.setattr(ray, "init", refuse)
    write_log(tmp_path / "log.parquet")
    before = sorted(tmp_path.iterdir())
    config = write_config(tmp_path)
    command = ("distill", "--config", config, "--out", tmp_path / "run", "--dry-run")
    assert diet(*command, "--price-per-hour", "3.6") == 0
    printed = capsys.readouterr().out
    assert "rows: 4,000, of them 3,200 to distil" in printed
    assert "slots: 160" in printed
    assert "cost: about 0.0" in printed
    assert sorted(tmp_path.iterdir()) == sorted([*before, config])


def test_what_a_run_would_refuse_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, source={"paths": ["gone.parquet"]})
    assert "gone.parquet" in refused(capsys, "distill", "--config", config, "--dry-run")
