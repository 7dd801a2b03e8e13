from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diet_ray.data.batch import Batch
from diet_ray.errors import DataError
from diet_ray.export.rows import ExportRows, hard_columns, repeated
from diet_ray.search.runs import TrainingRows
from tests.export.small_run import NUM_SLOTS, small_run


def weighted(weights: list[float]) -> TrainingRows:
    """Rows whose single id is their position."""
    n = len(weights)
    ids = torch.arange(n, dtype=torch.int32)
    batch = Batch(ids[:, None], torch.empty(n, 0), torch.empty(n, 0, 0, dtype=torch.int32), ids % 2)
    return TrainingRows(batch, torch.linspace(-0.5, 1.5, n), torch.tensor(weights))


def test_splits_are_the_slots_the_halves_of_the_tail_and_the_log(rows: ExportRows) -> None:
    found = {name: list(parts) for name, parts in rows.splits()}
    assert list(found) == ["train", "valid", "test", "full"]
    sizes = {name: sum(len(p) for p in parts) for name, parts in found.items()}
    assert sizes == {"train": NUM_SLOTS, "valid": 50, "test": 50, "full": 480}
    assert len(found["full"]) > 1
    (train,) = found["train"]
    assert torch.equal(train.target, rows.dataset.targets())
    assert torch.equal(train.weight.double(), rows.dataset.weights)
    for part in (*found["valid"], *found["test"], *found["full"]):
        assert torch.equal(part.target, part.batch.label)
        assert torch.equal(part.weight, torch.ones(len(part)))


def test_rows_that_are_not_distilled_yet_are_refused(tmp_path: Path) -> None:
    log = small_run(tmp_path)
    (tmp_path / "log" / "log.json").write_bytes(replace(log, fingerprint="longer").to_json())
    with pytest.raises(DataError, match="diet update"):
        ExportRows.of_run(tmp_path, "clicks", 100)


def test_weights_become_repetitions() -> None:
    ids = repeated(weighted([1.0, 1.0, 6.0, 0.01])).batch.categorical[:, 0].tolist()
    assert ids == [1, 2, 2, 2]
    equal = weighted([7.0] * 5)
    assert torch.equal(repeated(equal).batch.categorical, equal.batch.categorical)


@given(st.lists(st.floats(0.5, 100.0), min_size=1, max_size=60))
def test_each_row_appears_as_often_as_its_weight_says_within_one(weights: list[float]) -> None:
    rows = repeated(weighted(weights))
    assert len(rows) == len(weights)
    ids = rows.batch.categorical[:, 0].numpy()
    assert (np.diff(ids) >= 0).all()
    counts = np.bincount(ids, minlength=len(weights))
    expected = len(weights) * np.array(weights) / np.sum(weights)
    assert (np.abs(counts - expected) < 1 + 1e-4).all()


def test_soft_labels_are_clipped_for_losses_that_need_it(rows: ExportRows) -> None:
    (train,) = next(iter(rows.splits()))[1]
    assert not ((train.target >= 0) & (train.target <= 1)).all()
    column = hard_columns(train, rows.features, "click")["click"].to_numpy()
    np.testing.assert_array_equal(column, repeated(train).target.clamp(0, 1).numpy())
