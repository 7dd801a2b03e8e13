"""`diet demo` replaces its own run alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from diet_ray.distillation.config import load_distill_config
from diet_ray.distillation.run import RunFolder, _claim
from tests.kuairand import write_config, write_log
from tests.test_cli import refused


def test_a_run_of_another_log_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path / "log.parquet")
    run = RunFolder(tmp_path / "run")
    _claim(run, load_distill_config(write_config(tmp_path)))
    before = run.config.read_bytes()
    line = refused(capsys, "demo", "--out", run.path)
    assert f"{run.path}: holds a run of another log: choose another --out" in line
    assert run.config.read_bytes() == before
