from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diet_ray.data.log import PreparedLog
from diet_ray.distillation.proxy import Proxy
from diet_ray.errors import ConfigError
from diet_ray.models.catalogue import Candidate
from diet_ray.models.dnn import DNN
from diet_ray.scoring.train import train_checkpoints
from tests.distillation.small_log import small_log

CANDIDATE = Candidate(
    name="c", architecture="dnn", embedding_size=4, hidden_sizes=(8,), batch_size=32
)


@pytest.fixture
def log(tmp_path: Path) -> PreparedLog:
    return small_log(tmp_path / "log", num_stages=4, num_test_stages=1)


def test_checkpoints_lie_evenly_along_one_training(log: PreparedLog, tmp_path: Path):
    found = train_checkpoints(log, CANDIDATE, 2, tmp_path / "out", seed=3)
    assert [Path(c.name).name for c in found] == [
        "stage-00001.safetensors",
        "stage-00003.safetensors",
    ]
    proxy = Proxy(CANDIDATE, log.features_at(0), 3)
    for stage in log.train_stages:
        proxy.grow(log.features_at(stage.index))
        proxy.train(log.batches([stage]))
        if stage.index in (1, 3):
            kept = found[stage.index // 2]
            assert kept.features == log.features_at(stage.index)
            assert all(torch.equal(kept.weights[n], w) for n, w in proxy.weights().items())


def test_what_is_there_is_not_trained_again(
    log: PreparedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = train_checkpoints(log, CANDIDATE, 4, tmp_path / "out")
    (tmp_path / "out" / "stage-00002.safetensors").unlink()
    again = train_checkpoints(log, CANDIDATE, 4, tmp_path / "out")
    monkeypatch.setattr("diet_ray.scoring.train._train", None)
    kept = train_checkpoints(log, CANDIDATE, 4, tmp_path / "out")
    for a, b, c in zip(first, again, kept, strict=True):
        assert a.weights.keys() == b.weights.keys() == c.weights.keys()
        for name, value in a.weights.items():
            assert torch.equal(value, b.weights[name])
            assert torch.equal(value, c.weights[name])


@pytest.mark.parametrize("num_checkpoints", [0, 5])
def test_no_more_checkpoints_than_stages(log: PreparedLog, tmp_path: Path, num_checkpoints: int):
    with pytest.raises(ConfigError, match=rf"^{num_checkpoints} checkpoints: the log has 4 train"):
        train_checkpoints(log, CANDIDATE, num_checkpoints, tmp_path / "out")


def test_checkpoints_of_another_candidate_are_refused(log: PreparedLog, tmp_path: Path):
    train_checkpoints(log, CANDIDATE, 1, tmp_path / "out")
    other = Candidate(name="other", architecture="fm")
    said = r"^.*stage-00003.safetensors: holds candidate dnn\(.*, not fm\(.*another --out$"
    with pytest.raises(ConfigError, match=said):
        train_checkpoints(log, other, 1, tmp_path / "out")


class Own(DNN):
    """A model of somebody's own."""


def test_a_model_of_ones_own_is_trained_and_read(log: PreparedLog, tmp_path: Path):
    own = replace(CANDIDATE, architecture=f"{__name__}:Own")
    (found,) = train_checkpoints(log, own, 1, tmp_path / "out")
    assert isinstance(found.model(log.features), Own)
