"""What the benchmark of a search says of a comparison."""

from __future__ import annotations

import pytest

from benchmarks.searching import arms, stacked
from diet_ray.data.batch import FeatureSpec

FEATURES = FeatureSpec(categorical=("user", "item"), num_ids=(9, 9), numeric=("age",), sequence=())


def report(**values: object) -> dict:
    found = dict.fromkeys(arms.ConsistencyReport.__annotations__, 0.0)
    return found | {"candidates": []} | values


def test_amortised_counts_distilling_and_the_overhead_once() -> None:
    found = report(
        num_counted=10,
        full_seconds=1000.0,
        distilled_seconds=25.0,
        search_overhead_seconds=5.0,
    )
    # 40 candidates: full 4,000 s; distilled 4 · 20 s and 5 s; distilling 115 s.
    assert arms.amortised(found, 40, distill_s=115.0) == pytest.approx(20.0)


def test_cpu_time_counts_all_processes_of_the_search() -> None:
    found = arms.figures(
        report(
            num_counted=20,
            full_seconds=500.0,
            distilled_seconds=10.0,
            search_overhead_seconds=2.0,
            full_run_cpu_seconds=900.0,
        ),
        search_cpu_s=30.0,
        distilling={"seconds": 60.0, "cpu_seconds": 90.0},
    )
    assert found["iteration_speedup_by_cpu_time"] == 30.0
    assert found["amortised_speedup_by_cpu_time"] == pytest.approx(1800.0 / (90.0 + 60.0))
    assert found["search_overhead"] == 0.2


def test_forty_candidates_of_every_architecture() -> None:
    class Log:
        features = FEATURES

    trial = arms.Trial(name="x", distill=arms.synthetic(1_000).distill, num_candidates=40)
    found = trial.candidates(Log())  # type: ignore[arg-type]
    assert len({c.identity for c in found}) == 40
    assert {c.architecture for c in found} == set(arms.FIRST_TWELVE)
    assert len(arms.synthetic(1_000).candidates(Log())) == 12  # type: ignore[arg-type]


def test_stacked_rows_can_be_learned() -> None:
    rows = stacked._rows(0)
    assert 0.3 < float(rows.label.mean()) < 0.7
    assert (stacked._rows(1).categorical != rows.categorical).any()
