"""Distilling a log in this process, as `diet distill` does on a cluster."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.laboratory.ledger import key_of
from benchmarks.laboratory.logs import LogSource
from diet_ray.config import to_mapping
from diet_ray.data.log import PreparedLog
from diet_ray.distillation.budget import BudgetConfig
from diet_ray.distillation.config import DistillConfig
from diet_ray.distillation.description import description
from diet_ray.distillation.pipeline import (
    Distiller,
    Watcher,
    remaining_stages,
    resume,
    slot_budgets,
)
from diet_ray.influence.serial import SerialScorer
from diet_ray.memory.dataset import DistilledDataset
from diet_ray.memory.publish import publish
from diet_ray.memory.store import MemoryStore
from diet_ray.search.runs import TrainingRows
from diet_ray.training.recipe import Recipe

REFERENCE_FRACTION = 1 / 60
"""The size at which recipes, parts and stages are compared."""


@dataclass(frozen=True, kw_only=True)
class Distilled:
    train: TrainingRows
    recipe: Recipe
    teacher: Tensor
    """The proxies' mean logit after the last stage, of every training row (rows,)."""
    row_fraction: float
    byte_fraction: float
    seconds: float


def default_config(source: LogSource, fraction: float, seed: int) -> DistillConfig:
    """What ships, at a size of choice."""
    return DistillConfig(
        schema=source.schema,
        source=source.source,
        budget=BudgetConfig(fraction=fraction),
        seed=seed,
    )


def distil(log: PreparedLog, config: DistillConfig, out: Path) -> Distilled:
    """The distilled set of a configuration; below `out`, once for each log and configuration."""
    # What stands in the source's place, wherever it is, is in the log's fingerprint.
    settings = {k: v for k, v in to_mapping(config).items() if k not in ("schema", "source")}
    folder = out / key_of(log.fingerprint, settings)
    if not (folder / "seconds.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _distil(log, config, folder)
    dataset = DistilledDataset.load(folder / "distilled")
    return Distilled(
        train=TrainingRows.of(dataset),
        recipe=dataset.recipe,
        teacher=torch.from_numpy(np.load(folder / "teacher.npy")),
        row_fraction=dataset.row_fraction,
        byte_fraction=dataset.byte_fraction,
        seconds=json.loads((folder / "seconds.json").read_text()),
    )


@contextmanager
def distilling(
    log: PreparedLog, config: DistillConfig, folder: Path
) -> Iterator[tuple[Distiller, MemoryStore]]:
    """A distillation that begins, with its memory in `folder`, all in this process."""
    memory = MemoryStore(folder, log.schema)
    try:
        position = memory.begin("laboratory")
        state = resume(log, config, memory)
        budgets = slot_budgets(log, config)
        scorer = SerialScorer(log, config.lead, config.influence, budgets, config.seed)
        yield Distiller(log, config, state, scorer, memory, position, Watcher()), memory
    finally:
        memory.close()


def _distil(log: PreparedLog, config: DistillConfig, folder: Path) -> None:
    begin_s = time.process_time()
    with distilling(log, config, folder / "memory") as (distiller, memory):
        state = distiller.state
        distiller.run(remaining_stages(log, state))
        slots = memory.slots()
    publish(
        folder / "distilled",
        slots,
        description(config, log, state, slots.num_rows),
        vocabulary=Path(log.path) / "vocabulary",
    )
    seconds = time.process_time() - begin_s
    shutil.rmtree(folder / "memory")
    teacher = state.proxies.predict(log.load(log.train_stages))
    np.save(folder / "teacher.npy", teacher.numpy())
    (folder / "seconds.json").write_text(json.dumps(seconds))
