"""What a search prints and keeps, from made-up trials."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from diet_ray.distillation.run import RunFolder
from diet_ray.report import format as fmt
from diet_ray.search import comparison
from diet_ray.search import resolution as resolution_module
from diet_ray.search.anchors import Calibration
from diet_ray.search.evaluation import Evaluation, evaluation_rows
from diet_ray.search.records import TrialResult
from diet_ray.search.runs import RunResult
from diet_ray.search.sampling_error import difference_error
from diet_ray.search.trials import SearchResult, write_ranking
from diet_ray.training.recipe import Recipe
from tests.search.candidates import CANDIDATES
from tests.search.memory_log import memory_log


@pytest.fixture(autouse=True)
def two_standard_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolution_module, "RESOLUTION_SDS", 2.0)


def trial(index: int, aucs: list[float], num_reports: int = 1) -> TrialResult:
    runs = tuple(
        RunResult(
            name=CANDIDATES[index].name,
            seed=seed,
            evaluation=Evaluation(
                auc=auc, logloss=0.6, regret_auc=auc, regret_logloss=0.6, block_auc=()
            ),
            train_seconds=1.0,
            evaluation_seconds=0.25,
            row_visits=10.0,
            num_steps=1,
            curve=(),
        )
        for seed, auc in enumerate(aucs)
    )
    error = None if runs else "RuntimeError: no such luck"
    return TrialResult(candidate=CANDIDATES[index], runs=runs, num_reports=num_reports, error=error)


def result(*trials: TrialResult) -> SearchResult:
    return SearchResult(trials=trials, wall_seconds=9.0, search_overhead_s=0.0, num_workers=1)


def table(found: SearchResult) -> list[list[str]]:
    """The cells of the printed rows."""
    stream = io.StringIO()
    Console(file=stream, width=100).print(comparison._ranking(found))
    rows = [line for line in stream.getvalue().splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in row.strip("│").split("│")] for row in rows]


# A seed SD of √2 · 0.01: means further apart than 0.0283 are resolved.
THREE = (trial(0, [0.69, 0.71]), trial(2, [0.71, 0.73]), trial(3, [0.73, 0.75]))


def test_places_stand_in_the_table() -> None:
    assert table(result(*THREE, trial(4, []))) == [
        ["1", "dnn-small", "0.7400", "1-2", "2.50"],
        ["2", "dnn", "0.7200", "1-3", "2.50"],
        ["3", "lr", "0.7000", "2-3", "2.50"],
        ["–", "lr-slow", "failed", "", "RuntimeError: no such luck"],
    ]
    far = result(trial(0, [0.59, 0.61]), trial(2, [0.71, 0.73]))
    assert [row[3] for row in table(far)] == ["1", "2"]


def test_one_seed_leaves_places_open() -> None:
    assert [row[3] for row in table(result(trial(0, [0.7]), trial(2, [0.6])))] == ["–", "–"]


def test_a_stopped_candidate_is_no_worse_for_that() -> None:
    found = result(trial(0, [0.5, 0.5], 4), trial(2, [0.9, 0.9], 1), trial(3, [0.4, 0.4], 4))
    assert [row[1] for row in table(found)] == ["lr", "dnn-small", "dnn"]
    assert [row[3] for row in table(found)] == ["1-2", "2-3", "1-3"]
    assert found.resolution is not None
    assert found.resolution.num_pairs == 1


def test_the_ranking_is_kept_with_what_of_it_is_noise(tmp_path: Path) -> None:
    write_ranking(result(*THREE, trial(4, [])), tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "ranking.json").read_text())
    assert kept["seed_sd"] == pytest.approx(2**0.5 * 0.01)
    assert kept["threshold"] == pytest.approx(2 * 2**0.5 * 0.01)
    assert (kept["num_pairs"], kept["num_unresolved_pairs"]) == (3, 2)
    rows = kept["ranking"]
    assert [(r["candidate"]["name"], r["places"]) for r in rows] == [
        ("dnn-small", [1, 2]),
        ("dnn", [1, 3]),
        ("lr", [2, 3]),
    ]
    assert [r["mean_auc"] for r in rows] == pytest.approx([0.74, 0.72, 0.70])
    assert [r["num_reports"] for r in rows] == [1, 1, 1]
    assert kept["failed"] == {"lr-slow": "RuntimeError: no such luck"}
    assert kept["calibration"] is None


@pytest.mark.parametrize("trials", [(trial(0, [0.7]), trial(2, [0.6])), (trial(0, []),), ()])
def test_without_an_estimate_its_figures_are_null(
    trials: tuple[TrialResult, ...], tmp_path: Path
) -> None:
    write_ranking(result(*trials), tmp_path)
    kept = json.loads((tmp_path / "ranking.json").read_text())
    for key in ("seed_sd", "threshold", "num_pairs", "num_unresolved_pairs"):
        assert kept[key] is None
    assert all(r["places"] is None for r in kept["ranking"])


SHIPPED = Recipe(steps_per_step=4.0, dense_drift=0.5, table_drift=0.5)


@pytest.mark.parametrize(
    ("chosen", "left_out", "line"),
    [
        (
            Recipe(steps_per_step=2.0),
            0.8,
            "Recipe: steps 2, no drift, chosen on 4 anchors; pairs in the full order 0.88 "
            "(left out 0.80), shipped recipe 0.73",
        ),
        (
            Recipe(steps_per_step=4.0, dense_drift=1.0, table_drift=1.0),
            0.79,
            "Recipe: steps 4, drift 1, chosen on 4 anchors; pairs in the full order 0.88 "
            "(left out 0.79), shipped recipe 0.73",
        ),
        (
            SHIPPED,
            0.79,
            "Recipe: as shipped, chosen on 4 anchors; pairs in the full order 0.88 "
            "(left out 0.79), shipped recipe 0.73",
        ),
        (
            Recipe(steps_per_step=2.0),
            0.77,
            "Recipe: as shipped; calibration on 4 anchors isn't shown to help: pairs in the full "
            "order, left out, 0.77, shipped recipe 0.73",
        ),
    ],
)
def test_the_recipe_stands_in_one_line(chosen: Recipe, left_out: float, line: str) -> None:
    found = Calibration(
        anchors=("a", "b", "c", "d"),
        choices=(SHIPPED, chosen),
        agreements=(0.73, 0.875),
        chosen=chosen,
        left_out_agreement=left_out,
        shipped_agreement=0.73,
        gain_error=0.05,
    )
    assert comparison._recipe_line(found) == line


PROXIES = SimpleNamespace(
    all=[
        SimpleNamespace(predict=lambda batch: batch.numeric[:, 0]),
        SimpleNamespace(predict=lambda batch: batch.categorical[:, 1]),
    ]
)
LARGE = memory_log(train=((10,),), test=((6400,),))


def rows_enough(times_smaller: float, monkeypatch: pytest.MonkeyPatch) -> tuple[int, float, str]:
    """Rows for an error so many times smaller than that of a pilot of 200; that one; the line."""
    pilot = evaluation_rows(LARGE, 400).ranking_alone().batch
    scores = [proxy.predict(pilot).double().numpy() for proxy in PROXIES.all]
    error = difference_error(pilot.label.double().numpy(), scores)
    stream = io.StringIO()
    monkeypatch.setattr(comparison, "load_proxies", lambda run: PROXIES)
    found = comparison._rows_enough(
        RunFolder(Path("run")), LARGE, 400, error / times_smaller, Console(file=stream, width=200)
    )
    return found, error, stream.getvalue().strip()


# Of either slice: 1,000 are the least that is ever enough, 9 times the pilot's 200 are 1,800.
@pytest.mark.parametrize(("times_smaller", "expected"), [(1.0, 2_000), (2.9999, 3_600)])
def test_rows_for_an_error_grow_with_its_square(
    times_smaller: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _, line = rows_enough(times_smaller, monkeypatch)
    assert found == expected
    assert line == f"Evaluation: {expected:,} rows, half of them to rank on"


def test_too_few_test_rows_say_what_error_they_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    found, error, line = rows_enough(5.0, monkeypatch)
    assert found == 6_400
    assert line == (
        "Evaluation: 6,400 rows, half of them to rank on: all that the test part has; its error of "
        # Of 3,200 rows to rank on: 16 times those of the pilot.
        f"a difference is {fmt.significant(error / 4)} AUC, above the "
        f"{fmt.significant(error / 5)} asked for"
    )
