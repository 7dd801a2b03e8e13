"""What a search has found is on record as soon as it is found, and read back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from diet_ray.errors import OutputError
from diet_ray.search.baselines import hard, random_rows
from diet_ray.search.evaluation import evaluation_rows
from diet_ray.search.records import Records, TrialResult, digest
from diet_ray.search.run_set import DistilledRows
from diet_ray.search.runs import distilled_run
from diet_ray.training.recipe import Recipe
from tests.search.candidates import CANDIDATES
from tests.search.memory_log import FEATURES, memory_log

LOG = memory_log()
ROWS = DistilledRows(
    train=hard(random_rows(LOG, 100, seed=1)),
    features=FEATURES,
    recipe=Recipe(batch_share=1 / 8),
    evaluation=evaluation_rows(LOG, 100),
)
CANDIDATE = CANDIDATES[0]
SETTINGS = {"seeds": [0]}


def trial() -> TrialResult:
    run = distilled_run(CANDIDATE, ROWS.train, FEATURES, ROWS.recipe, ROWS.evaluation, 0)
    return TrialResult(candidate=CANDIDATE, runs=(run,), num_reports=1)


def test_a_trial_is_read_back(tmp_path: Path) -> None:
    found = trial()
    Records(tmp_path, ROWS, SETTINGS).add(found, 4.5)
    records = Records(tmp_path, ROWS, SETTINGS)
    assert records.known(CANDIDATE) == found
    assert records.seconds([CANDIDATE]) == 4.5
    assert records.known(CANDIDATES[2]) is None
    assert records.seconds([CANDIDATES[2]]) == 0.0


def test_a_model_under_another_name_is_the_same_trial(tmp_path: Path) -> None:
    Records(tmp_path, ROWS, SETTINGS).add(trial(), 1.0)
    known = Records(tmp_path, ROWS, SETTINGS).known(replace(CANDIDATE, name="alias"))
    assert known is not None
    assert known.candidate.name == known.runs[0].name == "alias"


def test_a_failure_is_on_record_and_tried_again(tmp_path: Path) -> None:
    failed = TrialResult(candidate=CANDIDATE, runs=(), num_reports=0, error="no luck")
    Records(tmp_path, ROWS, SETTINGS).add(failed, 1.0)
    assert Records(tmp_path, ROWS, SETTINGS).known(CANDIDATE) is None
    assert json.loads((tmp_path / "trials.jsonl").read_text())["error"] == "no luck"


@pytest.mark.parametrize(
    ("rows", "settings"),
    [
        (ROWS, {"seeds": [1]}),
        (replace(ROWS, recipe=Recipe(batch_share=1 / 4)), SETTINGS),
        (replace(ROWS, train=hard(random_rows(LOG, 100, seed=2))), SETTINGS),
        (replace(ROWS, evaluation=evaluation_rows(LOG, 102)), SETTINGS),
    ],
)
def test_other_rows_and_settings_are_another_search(
    rows: DistilledRows, settings: dict, tmp_path: Path
) -> None:
    Records(tmp_path, ROWS, SETTINGS).add(trial(), 1.0)
    assert Records(tmp_path, rows, settings).known(CANDIDATE) is None
    assert Records(tmp_path, ROWS, SETTINGS).known(CANDIDATE) is not None


def test_weights_count_among_the_rows() -> None:
    train = replace(ROWS.train, weight=ROWS.train.weight * 2)
    assert digest(replace(ROWS, train=train)) != digest(ROWS)


def test_a_line_that_was_cut_off_spoils_neither_its_neighbours(tmp_path: Path) -> None:
    Records(tmp_path, ROWS, SETTINGS).add(trial(), 1.0)
    file = tmp_path / "trials.jsonl"
    file.write_text(file.read_text() + '{"key": "ab')
    Records(tmp_path, ROWS, {"seeds": [7]}).add(trial(), 1.0)
    assert Records(tmp_path, ROWS, SETTINGS).known(CANDIDATE) is not None
    assert Records(tmp_path, ROWS, {"seeds": [7]}).known(CANDIDATE) is not None
    assert len(file.read_text().splitlines()) == 3


def test_without_a_folder_nothing_is_written() -> None:
    records = Records(None, ROWS, SETTINGS)
    records.add(trial(), 1.0)
    assert records.known(CANDIDATE) is not None


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"trials\.jsonl: can't be written"):
        Records(tmp_path / "file", ROWS, SETTINGS)
