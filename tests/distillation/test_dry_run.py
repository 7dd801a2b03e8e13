from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from diet_ray.data.schema import Schema
from diet_ray.data.sources.open import open_source
from diet_ray.distillation import dry_run
from diet_ray.distillation.budget import BudgetConfig
from diet_ray.distillation.config import DistillConfig, load_distill_config
from diet_ray.distillation.dry_run import (
    BASE_BYTES,
    STAGE_S,
    START_S,
    Measured,
    estimate,
    grown,
    measure,
)
from tests.kuairand import SCHEMA, write_config, write_log

MEASURED = Measured(
    num_rows=1_000_000,
    num_sample_rows=10_000,
    days=0.5,
    prepare_rows_per_s=100_000.0,
    train_rows_per_s=10_000.0,
    score_rows_per_s=3_000.0,
    bytes_per_row=100.0,
    num_values={"user": 2_000, "hour": 24},
    num_values_of_half={"user": 1_000, "hour": 24},
    bytes_per_value={"user": 1_000, "hour": 1_000},
)


@pytest.fixture
def config(tmp_path: Path) -> DistillConfig:
    write_log(tmp_path / "log.parquet")
    changes = {"stages": {"by": "day", "test_fraction": 0.1}, "budget": {"fraction": 0.01}}
    return load_distill_config(write_config(tmp_path, **changes))


def test_time_is_the_slower_of_training_and_scoring(config: DistillConfig) -> None:
    # 900,000 rows: 90 s of training beside 300 s of scoring on one core, 50 days of 20,000 rows.
    found = estimate(MEASURED, config, num_cpus=2)
    assert found.num_train_rows == 900_000
    assert found.num_stages == 45
    assert found.distill_s == pytest.approx(300 + 45 * STAGE_S)
    assert found.total_s == pytest.approx(START_S + 10 + found.distill_s)
    assert estimate(MEASURED, config, num_cpus=7).distill_s == pytest.approx(90 + 45 * STAGE_S)
    assert estimate(MEASURED, config, num_cpus=1).distill_s == pytest.approx(390 + 45 * STAGE_S)


def test_memory_follows_the_vocabularies_not_the_rows(config: DistillConfig) -> None:
    assert grown(MEASURED, "user", 900_000) == 180_000
    assert grown(MEASURED, "hour", 900_000) == 24
    found = estimate(MEASURED, config, num_cpus=2)
    shards_and_slots = 2 * 65_536 * 100 + 3 * 9_000 * 100
    assert found.num_slots == 9_000
    assert found.memory_bytes == BASE_BYTES + 180_024 * 1_000 + shards_and_slots
    longer = replace(MEASURED, num_rows=2_000_000, num_values={"hour": 24})
    more = estimate(longer, config, num_cpus=2).memory_bytes
    assert more < found.memory_bytes


def test_stages_of_a_number_of_rows_are_counted(config: DistillConfig) -> None:
    stages = replace(config.stages, by="rows", rows=100_000)
    assert estimate(MEASURED, replace(config, stages=stages), num_cpus=2).num_stages == 9


def test_the_log_s_first_rows_are_measured(
    config: DistillConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "SAMPLE_ROWS", 3_000)
    schema = Schema.load(SCHEMA)
    found = measure(open_source(config.source, schema, tmp_path), schema, config)
    assert (found.num_rows, found.num_sample_rows) == (4_000, 3_000)
    assert set(found.num_values) == {"user_id", "video_id", "hourmin"}
    assert found.num_values_of_half["video_id"] < found.num_values["video_id"]
    assert min(found.prepare_rows_per_s, found.train_rows_per_s, found.score_rows_per_s) > 0
    # 2 ids and a place in the history of 20, and what each row has: row, time, label, stratum.
    assert found.bytes_per_row == pytest.approx(8 + 8 + 4 + 4 + 3 * 4 + 4 + 20 * 4, rel=0.05)


def test_a_small_share_is_measured_too(
    config: DistillConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "SAMPLE_ROWS", 3_000)
    schema = Schema.load(SCHEMA)
    small = replace(config, budget=BudgetConfig(fraction=1e-4))
    assert measure(open_source(config.source, schema, tmp_path), schema, small).score_rows_per_s > 0
