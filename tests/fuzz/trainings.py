"""Readers of weights: checkpoints of models and of trainings, and what lies beside them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from diet_ray.config import to_mapping
from diet_ray.errors import ConfigError
from diet_ray.parquet import decoding
from diet_ray.scoring.checkpoint import Checkpoint
from diet_ray.storage import Folder
from diet_ray.training import train_run
from diet_ray.training.checkpoints import Checkpoints, TrainState
from diet_ray.training.config import TrainConfig
from tests.fuzz.configurations import known_candidates
from tests.fuzz.memories import small_proxies
from tests.fuzz.reader import Reader, files, quiet
from tests.fuzz.results import run_result
from tests.models.rows import FEATURES, candidate, random_batch
from tests.scoring.test_checkpoint import trained


def _make_checkpoint(folder: Path) -> None:
    saved = Checkpoint.of_proxy(trained("dnn"), "proxy")
    saved.save(folder / "own.safetensors")
    bare = {k: v.contiguous() for k, v in saved.weights.items()}
    (folder / "bare.safetensors").write_bytes(safetensors.torch.save(bare))
    torch.save(dict(saved.weights), folder / "bare.pt")


def _read_checkpoint(folder: Path, _: Path) -> None:
    for path in files(folder):
        given = None if path.name.startswith("own") else candidate("dnn", batch_size=16)
        found = Checkpoint.load(path, FEATURES, given)
        model = found.model(FEATURES)
        found.moments_for(model)
        largest = max(float(w.detach().abs().max()) for w in model.parameters())
        assert math.isfinite(largest)
        # Products of numbers beyond all measure overflow, as they should.
        if largest < 1e6:
            assert bool(torch.isfinite(model(random_batch(3))).all())


def _about() -> dict[str, Any]:
    candidate = to_mapping(known_candidates()[0])
    rest = {"seed": 0, "log": "abc", "log_path": "x", "config": {"epochs": 1}}
    return {"candidate": candidate} | rest


def _make_training(folder: Path) -> None:
    checkpoints = Checkpoints(Folder.at(folder / "checkpoints"))
    proxies = small_proxies()
    for row in (10, 20):
        state = TrainState(row=row, num_rows=row, num_steps=row, seconds=1.0, losses=(0.7,))
        checkpoints.save(state, proxies.lead.state())
    result = train_run.TrainResult(
        candidate=known_candidates()[0],
        seed=0,
        log="abc",
        config=TrainConfig(),
        num_workers=1,
        device="cpu",
        num_rows=10,
        num_steps=2,
        num_epochs=1,
        seconds=1.0,
        rows_per_s=10.0,
        validation_auc=(0.6,),
        best_epoch=1,
        evaluation=run_result().evaluation,
        num_evaluation_rows=10,
        loss_curve=((1.0, 0.7),),
    )
    (folder / "train.json").write_text(json.dumps(to_mapping(result)))
    (folder / "run.json").write_text(json.dumps(_about()))


def _read_training(folder: Path, _: Path) -> None:
    checkpoints = Checkpoints(Folder.at(folder / "checkpoints"))
    name = checkpoints.newest()
    if name is not None:
        state, tensors = checkpoints.load(name)
        assert state.row >= 0
        with decoding(name, ConfigError):
            small_proxies().lead.load_state(tensors)
    train_run._claim(Folder.at(folder), _about())
    result = train_run._read_result(Folder.at(folder))
    train_run.print_trained(result, folder, quiet())


READERS = (
    Reader(name="checkpoint", make=_make_checkpoint, read=_read_checkpoint, weight=4, alone=True),
    Reader(name="training", make=_make_training, read=_read_training, weight=5),
)  # fmt: skip
