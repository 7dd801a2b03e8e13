"""Distilling a log in this process, as `diet distill` does on a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from benchmarks.laboratory.logs import LogSource
from diet_ray.data.batch import Batch
from diet_ray.data.log import PreparedLog
from diet_ray.distillation.budget import BudgetConfig
from diet_ray.distillation.config import DistillConfig
from diet_ray.distillation.pipeline import (
    Distiller,
    Watcher,
    remaining_stages,
    resume,
    slot_budgets,
)
from diet_ray.distillation.run import description
from diet_ray.influence.serial import SerialScorer
from diet_ray.memory.dataset import DistilledDataset
from diet_ray.memory.publish import publish
from diet_ray.memory.store import MemoryStore
from diet_ray.search.runs import TrainingRows
from diet_ray.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Distilled:
    train: TrainingRows
    recipe: Recipe
    teacher: Callable[[Batch], Tensor]
    """The proxies after the last stage, from rows to logits (B,)."""
    row_fraction: float
    byte_fraction: float
    seconds: float


def distil(
    log: PreparedLog, source: LogSource, fraction: float, seed: int, folder: Path
) -> Distilled:
    """The distilled set of the shipped default at `fraction` of the rows; `folder` is new."""
    begin_s = time.perf_counter()
    config = DistillConfig(
        schema=source.schema,
        source=source.source,
        budget=BudgetConfig(fraction=fraction),
        seed=seed,
    )
    memory = MemoryStore(folder / "memory", log.schema)
    try:
        position = memory.begin("laboratory")
        state = resume(log, config, memory)
        budgets = slot_budgets(log, config)
        scorer = SerialScorer(log, config.lead, config.influence, budgets, config.seed)
        distiller = Distiller(log, config, state, scorer, memory, position, Watcher())
        distiller.run(remaining_stages(log, state))
        slots = memory.slots()
    finally:
        memory.close()
    publish(
        folder / "distilled",
        slots,
        description(config, log, state, slots.num_rows),
        vocabulary=Path(log.path) / "vocabulary",
    )
    dataset = DistilledDataset.load(folder / "distilled")
    return Distilled(
        train=TrainingRows(dataset.batch(), dataset.targets(), dataset.weights.float()),
        recipe=dataset.recipe,
        teacher=state.proxies.predict,
        row_fraction=dataset.row_fraction,
        byte_fraction=dataset.byte_fraction,
        seconds=time.perf_counter() - begin_s,
    )
