"""`diet verify` on a run that was distilled on a cluster, sound and damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from diet_ray.distillation.config import load_distill_config
from diet_ray.distillation.run import distill
from diet_ray.memory.document import seal, unseal
from diet_ray.storage import sha256
from tests.kuairand import write_config, write_log
from tests.test_cli import diet


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_log(folder / "log.parquet", num_rows=2500)
    distill(load_distill_config(write_config(folder)), folder / "run")
    return folder / "run"


@pytest.fixture
def run(distilled: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    shutil.copytree(distilled, tmp_path / "run")
    return tmp_path / "run"


def last_stage(run: Path) -> Path:
    return sorted((run / "memory" / "stages").iterdir())[-1]


def change_records(run: Path, change: Callable[[list[dict[str, int]]], object]) -> None:
    """Other records in the last stage, whose checksums agree."""
    stage = last_stage(run)
    stream = json.loads((stage / "state" / "stream.json").read_text())
    change(stream["records"])
    content = json.dumps(stream).encode()
    (stage / "state" / "stream.json").write_bytes(content)
    commit = unseal((stage / "commit.json").read_bytes(), "")
    commit["files"]["state/stream.json"] = [len(content), sha256(content)]
    (stage / "commit.json").write_bytes(seal(commit))


def test_a_sound_run_its_memory_and_its_dataset(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (run, run / "memory", run / "distilled"):
        assert diet("verify", path) == 0
        assert "whole" in capsys.readouterr().out
    assert diet("verify", run, "--repair") == 0
    assert "nothing to repair, at stage 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda records: records.pop(0), "comes after stages [1] where the log has [0, 1]"),
        (lambda records: records[0].update(rows=999), "rows where the log has [1000, 1000]"),
    ],
)
def test_a_gap_between_stages(
    change: Callable[[list[dict[str, int]]], object],
    message: str,
    run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change_records(run, change)
    assert diet("verify", run) == 2
    assert message in capsys.readouterr().err


def test_a_budget_that_is_exceeded(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((run / "distill.json").read_text())
    config["budget"]["fraction"] = 0.01
    (run / "distill.json").write_text(json.dumps(config))
    assert diet("verify", run) == 2
    assert "slots where the budget allows 24" in " ".join(capsys.readouterr())


def test_repaired_and_gone_on_with_to_the_same_bits(
    run: Path, distilled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = last_stage(run) / "slots.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert diet("verify", run) == 2
    assert "slots.parquet: doesn't match its checksum" in capsys.readouterr().err
    assert diet("verify", run, "--repair") == 0
    assert "dropped: stage 1" in (out := capsys.readouterr().out)
    assert "back at stage 0" in out
    assert diet("update", run) == 0
    for name in ("distilled/memory.parquet", "memory/stages/00001/slots.parquet"):
        assert (run / name).read_bytes() == (distilled / name).read_bytes()
    assert diet("verify", run) == 0


def test_a_damaged_dataset_is_named_with_what_to_do(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "distilled" / "memory.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    assert diet("verify", run) == 2
    assert f"`diet update {run}` publishes it again" in capsys.readouterr().err
    assert diet("verify", run / "distilled") == 2


def test_nothing_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert diet("verify", tmp_path) == 2
    assert "no run, no memory and no distilled dataset" in capsys.readouterr().err
