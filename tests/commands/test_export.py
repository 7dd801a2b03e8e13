from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.export.small_run import NUM_SLOTS, small_run
from tests.test_cli import diet, refused


@pytest.mark.parametrize(
    ("library", "file"),
    [
        ("fuxictr", "run/feature_map.json"),
        ("recbole", "run/run.train.inter"),
        ("deepctr", "feature_columns.json"),
        ("hf", "data/train.parquet"),
    ],
)
def test_export_writes_what_a_library_reads(library: str, file: str, tmp_path: Path) -> None:
    small_run(tmp_path / "run")
    assert diet("export", tmp_path / "run", tmp_path / "out", "--to", library) == 0
    assert (tmp_path / "out" / file).is_file()
    assert not list((tmp_path / "out").rglob("*full*"))


def test_name_evaluation_rows_and_the_full_log(tmp_path: Path) -> None:
    small_run(tmp_path / "run")
    options = ("--to", "fuxictr", "--name", "clicks", "--evaluation-rows", "40", "--full")
    assert diet("export", tmp_path / "run", tmp_path / "out", *options) == 0
    sizes = {
        p.stem: pq.read_metadata(p).num_rows for p in (tmp_path / "out/clicks").glob("*.parquet")
    }
    assert sizes == {"train": NUM_SLOTS, "valid": 20, "test": 20, "full": 480}


def test_what_is_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "export", tmp_path, tmp_path / "out", "--to", "hf")
    assert "no distilled dataset here" in line
    assert not (tmp_path / "out").exists()
