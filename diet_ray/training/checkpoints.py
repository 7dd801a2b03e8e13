"""Checkpoints of a training run: all that going on bit for bit needs, in one file.

    checkpoints/0001-000000131072.safetensors    after 131,072 rows of the second epoch
    checkpoints/best-0001.safetensors            the weights after epoch 1, as `diet score` reads

A file is whole or not there. The last two of each kind are kept, so that one that can't be read
costs rows, not the run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import safetensors.torch
from torch import Tensor

from diet_ray.config import from_mapping, to_mapping
from diet_ray.documents import parse_json
from diet_ray.errors import DataError, DietError
from diet_ray.scoring.checkpoint import Checkpoint
from diet_ray.storage import Folder
from diet_ray.tensor_file import parse_tensors

_SUFFIX = ".safetensors"
_BEST = "best-"
_METADATA = "diet_ray_train"
_NUM_KEPT = 2


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """Where a run stands, beside its weights."""

    allows_nan: ClassVar[bool] = True
    """Of losses, when the training has diverged."""
    epoch: int = 0
    """Epochs that are finished, validation included."""
    row: int = 0
    """Rows of the next one that were trained on."""
    num_rows: int = 0
    """Rows trained on, every epoch counted."""
    num_steps: int = 0
    seconds: float = 0.0
    """Of training, validation and checkpoints, without work that was lost."""
    points: tuple[tuple[float, ...], ...] = ()
    """(rows so far, mean loss) of the loss curve."""
    losses: tuple[float, ...] = ()
    """Of the steps since the last point."""
    validation_auc: tuple[float, ...] = ()
    """After each epoch; empty without rows held out."""

    @property
    def best_epoch(self) -> int | None:
        """The epoch, counted from 1, with the best AUC on the rows held out; the first of ties."""
        if not self.validation_auc:
            return None
        return self.validation_auc.index(max(self.validation_auc)) + 1

    def is_done(self, epochs: int, patience: int) -> bool:
        """Whether no epoch is left, or `patience` of them brought no better AUC."""
        best = self.best_epoch
        return self.epoch >= epochs or (best is not None and self.epoch - best >= patience)


class Checkpoints:
    """The checkpoints in one folder; one process writes them."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """Of the checkpoints that a run goes on from, the newest last."""
        names = self.folder.names()
        return [n for n in names if n.endswith(_SUFFIX) and not n.startswith(_BEST)]

    def newest(self) -> str | None:
        """The last one that can be read."""
        for name in reversed(self.names()):
            try:
                self.load(name)
            except (OSError, DietError):
                continue
            return name
        return None

    def load(self, name: str) -> tuple[TrainState, dict[str, Tensor]]:
        """State, and tensors on the CPU. Raises OSError, or a `DietError` naming the file."""
        where = f"{self.folder}/{name}"
        tensors, metadata = parse_tensors(self.folder.read(name), where, DataError)
        about = parse_json(metadata.get(_METADATA, ""), where, DataError)
        return from_mapping(TrainState, about, where), tensors

    def save(self, state: TrainState, tensors: dict[str, Tensor]) -> None:
        """Writes one and removes those that are no longer kept. Raises `OutputError`."""
        name = f"{state.epoch:04d}-{state.row:012d}{_SUFFIX}"
        content = {k: v.contiguous() for k, v in tensors.items()}
        metadata = {_METADATA: json.dumps(to_mapping(state))}
        self.folder.write(name, safetensors.torch.save(content, metadata))
        self._prune(self.names())

    def save_best(self, epoch: int, checkpoint: Checkpoint) -> None:
        """Keeps the model after `epoch`; the state that says it is the best is to be saved next."""
        checkpoint.save(self.best(epoch))
        self._prune([n for n in self.folder.names() if n.startswith(_BEST)])

    def best(self, epoch: int) -> Path:
        """Where the model after `epoch` lies, if that epoch was the best so far."""
        return Path(self.folder.path_of(f"{_BEST}{epoch:04d}{_SUFFIX}"))

    def _prune(self, names: list[str]) -> None:
        for name in names[:-_NUM_KEPT]:
            self.folder.delete(name)
