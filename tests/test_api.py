from __future__ import annotations

from pathlib import Path

import pytest

import diet_ray
from diet_ray import Candidate, DistilledDataset
from tests.kuairand import SETTINGS, write_log

CANDIDATES = [
    Candidate(name="lr", architecture="lr", batch_size=128),
    Candidate(name="fm", architecture="fm", embedding_size=4, batch_size=128),
]


def test_every_name_that_is_offered_is_there() -> None:
    assert len(diet_ray.__all__) == len(set(diet_ray.__all__))
    assert set(diet_ray.__all__) == set(diet_ray._HOMES)
    for name in diet_ray.__all__:
        assert getattr(diet_ray, name).__doc__, name
    assert set(diet_ray.__all__) <= set(dir(diet_ray))
    with pytest.raises(AttributeError, match="distil"):
        diet_ray.distil  # noqa: B018


def test_from_a_log_to_a_ranking(ray_cluster: None, tmp_path: Path) -> None:
    first = str(write_log(tmp_path / "log.parquet"))
    second = str(write_log(tmp_path / "day.parquet", first_row=4000, num_rows=500))
    run = tmp_path / "run"
    dataset = diet_ray.distill(SETTINGS | {"source": {"paths": [first]}}, run)
    assert dataset.num_slots == 160
    assert diet_ray.distill(SETTINGS | {"source": {"paths": [first]}}, run).slots == dataset.slots
    longer = diet_ray.update(run, second)
    assert longer.manifest.num_rows_seen == 3700
    assert diet_ray.load(run).slots == longer.slots
    assert isinstance(diet_ray.load(run / "distilled"), DistilledDataset)
    table = diet_ray.search_candidates(run, CANDIDATES, evaluation_rows=400, workers=1)
    assert set(table["candidate"]) == {"lr", "fm"}
    assert table["auc"].is_monotonic_decreasing
    assert (table["best_place"] <= table["worst_place"]).all()
    assert (run / "search" / "ranking.json").exists()
