"""Whether a run's memory and its distilled dataset are what its log and budget say.

Beside what `memory.verification` checks: a stage's records follow the log's stages without a gap,
its slots are within budget, and weigh as many rows as were seen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diet_ray.data.log import PreparedLog
from diet_ray.data.schema import Schema
from diet_ray.distillation.config import DistillConfig
from diet_ray.distillation.pipeline import capacity_at
from diet_ray.distillation.run import RunFolder, load_run_config
from diet_ray.distillation.stream import StageRecord
from diet_ray.errors import DistilledSetError
from diet_ray.memory.dataset import DistilledDataset
from diet_ray.memory.repair import Repair, repair_memory
from diet_ray.memory.store import read_identity
from diet_ray.memory.verification import (
    WEIGHT_TOLERANCE,
    VerifiedMemory,
    VerifiedStage,
    verify_memory,
)
from diet_ray.storage import Folder


@dataclass(frozen=True, kw_only=True)
class VerifiedRun:
    memory: VerifiedMemory
    unfit: Mapping[int, str]
    """Whole stages that aren't what the log or the budget says."""
    identity_problem: str | None = None
    dataset_problem: str | None = None

    @property
    def good_stages(self) -> list[int]:
        return [s for s in self.memory.stages if s not in self.unfit]

    @property
    def problems(self) -> list[str]:
        others = [p for p in (self.identity_problem, self.dataset_problem) if p is not None]
        return [*self.memory.problems, *self.unfit.values(), *others]


def verify_run(run: RunFolder) -> VerifiedRun:
    """Raises `DataError` if it is no run, or its log can't be read."""
    config = load_run_config(run)
    log = PreparedLog.open(str(run.log))
    folder = Folder.at(run.memory)
    memory = verify_memory(folder, log.schema)
    unfit = {}
    for stage, verified in memory.stages.items():
        problem = _unfit(log, config, verified)
        if problem is not None:
            unfit[stage] = f"{folder}: stage {stage}: {problem}"
    return VerifiedRun(
        memory=memory,
        unfit=unfit,
        identity_problem=_identity_problem(folder, log.schema),
        dataset_problem=_dataset_problem(run),
    )


def repair_run(run: RunFolder) -> Repair:
    """Takes the memory back to its last good stage. Raises as `repair_memory` does."""
    found = verify_run(run)
    schema = PreparedLog.open(str(run.log)).schema
    return repair_memory(Folder.at(run.memory), schema, dict(found.unfit))


def _unfit(log: PreparedLog, config: DistillConfig, verified: VerifiedStage) -> str | None:
    """Why a run can't be gone on with from this stage; None if it can."""
    committed = verified.committed
    try:
        content = json.loads(verified.state["stream.json"])
        records = [StageRecord(**r) for r in content["records"]]
    except (KeyError, ValueError, TypeError) as e:
        return f"its state/stream.json can't be read: {e}"
    expected = [s for s in log.train_stages if s.index <= committed.stage]
    if [r.stage for r in records] != [s.index for s in expected]:
        return (
            f"it comes after stages {[r.stage for r in records]} where the log has "
            f"{[s.index for s in expected]}"
        )
    rows = [s.num_rows for s in expected]
    if [r.rows for r in records] != rows:
        return f"it has seen stages of {[r.rows for r in records]} rows where the log has {rows}"
    rows_seen = sum(rows)
    capacity = capacity_at(log, config, rows_seen)
    if committed.num_slots > capacity:
        return f"{committed.num_slots} slots where the budget allows {capacity}"
    if not _close(committed.total_weight, rows_seen):
        return f"its slots weigh {committed.total_weight:g} rows where {rows_seen} were seen"
    return None


def _identity_problem(folder: Folder, schema: Schema) -> str | None:
    if not folder.exists():
        return None
    try:
        found, _ = read_identity(folder)
    except DistilledSetError as e:
        return str(e)
    return None if found == schema else f"{folder}/memory.json: has another schema than the log"


def _dataset_problem(run: RunFolder) -> str | None:
    """None if the published dataset is whole, or there is none yet."""
    if not (run.distilled / "manifest.json").exists():
        return None
    try:
        verify_dataset(run.distilled)
    except DistilledSetError as e:
        return f"{e}: `diet update {run.path}` publishes it again"
    return None


def verify_dataset(path: str | Path | Folder) -> DistilledDataset:
    """A distilled dataset whose files, slots, weights and stages are what its manifest says.

    Raises `DistilledSetError` naming what isn't.
    """
    dataset = DistilledDataset.load(path)
    manifest = dataset.manifest
    where = f"{dataset.path}/manifest.json"
    total = float(dataset.slots["_weight"].to_numpy().sum())
    if not _close(total, manifest.total_weight):
        raise DistilledSetError(
            f"{where}: slots weigh {total:g} where it says {manifest.total_weight:g}"
        )
    if not _close(total, manifest.num_rows_seen):
        raise DistilledSetError(
            f"{where}: slots weigh {total:g} rows where {manifest.num_rows_seen} were seen"
        )
    rows = np.array([int(s["rows"]) for s in manifest.stages])
    seen = np.array([int(s["rows_seen"]) for s in manifest.stages])
    if not np.array_equal(np.cumsum(rows), seen):
        raise DistilledSetError(
            f"{where}: its stages' rows don't follow each other: one is missing"
        )
    return dataset


def _close(weight: float, expected: float) -> bool:
    return bool(np.isclose(weight, expected, rtol=WEIGHT_TOLERANCE, atol=0.0))
