"""A run's folder is one configuration's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from diet_ray.distillation.config import load_distill_config
from diet_ray.distillation.run import RunFolder, _claim, distill, load_run_config
from diet_ray.errors import ClusterError, DataError, DietError, OutputError
from tests.kuairand import write_config, write_log


def test_what_may_differ_between_two_calls_counts_from_the_second_on(tmp_path: Path) -> None:
    write_log(tmp_path / "log.parquet")
    config = load_distill_config(write_config(tmp_path))
    run = RunFolder(tmp_path / "run")
    assert _claim(run, config)
    fewer = replace(config.influence, num_scorers=1, cpus_per_scorer=1.0)
    assert not _claim(run, replace(config, kept_stages=5, influence=fewer))
    assert load_run_config(run).kept_stages == 5
    assert load_run_config(run).influence.num_scorers == 1
    with pytest.raises(OutputError, match="a run with another `seed`"):
        _claim(run, replace(config, seed=config.seed + 1))
    with pytest.raises(OutputError, match=r"a run with another `influence\.score`"):
        _claim(run, replace(config, influence=replace(config.influence, score="error")))
    assert load_run_config(run).kept_stages == 5


@pytest.mark.parametrize(
    ("error", "kept"), [(ClusterError("a node is lost"), True), (DataError("row 7"), False)]
)
def test_only_what_a_cluster_failed_at_goes_on(
    error: DietError, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(run: RunFolder, *_: object) -> None:
        run.log.mkdir()
        (run.log / "log.json").write_text("{}")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("diet_ray.distillation.run._prepare", prepare)
    monkeypatch.setattr("diet_ray.distillation.run._distil_remaining", fail)
    write_log(tmp_path / "log.parquet")
    config = load_distill_config(write_config(tmp_path))
    with pytest.raises(type(error)):
        distill(config, tmp_path / "run")
    assert (tmp_path / "run" / "log" / "log.json").exists() == kept
    assert (tmp_path / "run").exists() == kept


def test_a_run_is_known_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    write_log(tmp_path / "mine" / "log.parquet")
    write_config(tmp_path / "mine")
    run = RunFolder(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert _claim(run, load_distill_config("mine/distill.yaml"))
    monkeypatch.chdir(tmp_path / "mine")
    assert not _claim(run, load_distill_config("distill.yaml"))


def test_a_file_is_no_folder_for_a_run(tmp_path: Path) -> None:
    write_log(tmp_path / "log.parquet")
    with pytest.raises(OutputError, match=r"log\.parquet: is a file: choose another --out"):
        _claim(RunFolder(tmp_path / "log.parquet"), load_distill_config(write_config(tmp_path)))
