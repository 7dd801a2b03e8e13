"""Back to an earlier stage, in this process; on a cluster, see `commands/test_rollback`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from diet_ray.config import to_mapping
from diet_ray.data.log import MANIFEST, PreparedLog
from diet_ray.distillation.rollback import kept_stages, roll_back
from diet_ray.distillation.run import RunFolder
from diet_ray.errors import DistilledSetError
from diet_ray.memory.dataset import DistilledDataset
from diet_ray.memory.store import MemoryStore
from tests.distillation.small_log import SCHEMA
from tests.distillation.test_pipeline import DEFAULT
from tests.distillation.test_pipeline import run as distil
from tests.export.small_run import small_run

CONFIG = replace(DEFAULT, kept_stages=3)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run of three stages of 160 rows, all of which are kept."""
    run = RunFolder(tmp_path / "run")
    log = small_run(run.path)
    stages = tuple(replace(s, fingerprint=f"up to {s.index}") for s in log.stages)
    (run.log / MANIFEST).write_bytes(replace(log, stages=stages).to_json())
    run.config.write_text(json.dumps(to_mapping(CONFIG)))
    distil(PreparedLog.open(str(run.log)), run.memory, CONFIG)
    return run


def slots_of(run: RunFolder) -> pa.Table:
    memory = MemoryStore(run.memory, SCHEMA, retention=CONFIG.kept_stages)
    try:
        return memory.slots()
    finally:
        memory.close()


def test_back_at_the_first_stage_and_forth_to_the_same_bits(run: RunFolder) -> None:
    assert [s.stage for s in kept_stages(run.path)] == [0, 1, 2]
    slots = slots_of(run)
    dataset = roll_back(run.path, 0)
    assert dataset.slots.equals(DistilledDataset.load(run.distilled).slots)
    assert dataset.manifest.num_rows_seen == 160
    assert dataset.weights.sum().item() == pytest.approx(160)
    assert [s["stage"] for s in dataset.manifest.stages] == [0]
    assert dataset.manifest.source_fingerprint == "up to 0"
    assert [s.stage for s in kept_stages(run.path)] == [0]
    assert slots_of(run)["_birth_stage"].unique().to_pylist() == [0]
    again, _ = distil(PreparedLog.open(str(run.log)), run.memory, CONFIG, driver="update")
    assert again.equals(slots)


def test_a_stage_that_is_not_kept_changes_nothing(run: RunFolder) -> None:
    before = slots_of(run)
    with pytest.raises(DistilledSetError, match="stage 3 isn't kept; kept: 0, 1, 2"):
        roll_back(run.path, 3)
    assert slots_of(run).equals(before)


def test_a_memory_in_use_is_not_rolled_back(run: RunFolder) -> None:
    memory = MemoryStore(run.memory, SCHEMA, retention=CONFIG.kept_stages)
    with pytest.raises(DistilledSetError, match="in use by"):
        roll_back(run.path, 0)
    memory.close()
    assert [s.stage for s in kept_stages(run.path)] == [0, 1, 2]
