from __future__ import annotations

from pathlib import Path

import pytest

from diet_ray import DistilledDataset
from diet_ray.data.log import PreparedLog
from diet_ray.monitoring.status_file import read_status
from tests.kuairand import write_config, write_log
from tests.test_cli import diet, refused


def test_back_and_forth_gives_the_same_bits(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(tmp_path / "log.parquet")
    config = write_config(tmp_path, kept_stages=3, loggers=["tensorboard"])
    run = tmp_path / "run"
    assert diet("distill", "--config", config, "--out", run) == 0
    before = (run / "distilled" / "memory.parquet").read_bytes()
    assert diet("rollback", run) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[-3:]] == [
        "stage 1", "stage 2", "stage 3"
    ]  # fmt: skip

    assert "kept: 1, 2, 3" in refused(capsys, "rollback", run, "--to", "0")
    assert diet("rollback", run, "--to", "1") == 0
    dataset = DistilledDataset.load(run / "distilled")
    assert dataset.manifest.num_rows_seen == 2000
    assert dataset.weights.sum().item() == pytest.approx(2000)
    assert len(dataset.manifest.stages) == 2
    log = PreparedLog.open(str(run / "log"))
    assert dataset.manifest.source_fingerprint == log.stages[1].fingerprint
    assert "diet update" in refused(capsys, "export", run, tmp_path / "out", "--to", "hf")

    assert diet("update", run) == 0
    assert (run / "distilled" / "memory.parquet").read_bytes() == before
    # What watched meanwhile.
    status = read_status(run)
    assert (status.state, status.command, status.stage, status.rows) == (
        "finished", "update", 4, 3200
    )  # fmt: skip
    assert any((run / "tensorboard").iterdir())


def test_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no run of diet" in refused(capsys, "rollback", tmp_path, "--to", "1")
