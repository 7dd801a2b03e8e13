"""Recipes chosen on anchors: hand-sized cases, files, and the runs behind them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diet_ray.errors import ConfigError
from diet_ray.search.anchors import (
    calibrate,
    calibration,
    choose,
    left_out_agreements,
    load_anchors,
    recipe_choices,
)
from diet_ray.search.baselines import hard, random_rows
from diet_ray.search.evaluation import evaluation_rows
from diet_ray.search.run_set import DistilledRows, RunSet
from diet_ray.search.trials import SearchConfig
from diet_ray.search.workers import WorkersConfig
from diet_ray.training.recipe import Recipe
from tests.search.candidates import BROKEN, CANDIDATES
from tests.search.memory_log import FEATURES, memory_log

SHIPPED = Recipe(
    batch_share=1 / 8,
    steps_per_step=4.0,
    row_visit_fraction=0.1,
    dense_drift=0.5,
    table_drift=0.5,
)
NAMES = ("a", "b", "c")
FULL = np.array([0.70, 0.71, 0.72])
RIGHT, LAST_TWO, FIRST_TWO, REVERSED = [1, 2, 3], [1, 3, 2], [2, 1, 3], [3, 2, 1]


def columns(*choices: list[float]) -> np.ndarray:
    """Scores (A, R), given choice by choice."""
    return np.array(choices, dtype=np.float64).T


def test_choices_visit_as_many_rows_and_begin_with_the_shipped_one() -> None:
    choices = recipe_choices(SHIPPED)
    assert choices[0] == SHIPPED
    found = [(c.steps_per_step, c.batch_share, c.dense_drift, c.table_drift) for c in choices]
    assert found == [
        (4.0, 1 / 8, 0.5, 0.5),
        (4.0, 1 / 8, 0.0, 0.0),
        (4.0, 1 / 8, 1.0, 1.0),
        (2.0, 1 / 16, 0.0, 0.0),
    ]
    assert len({(c.epochs, c.order, c.row_visit_fraction) for c in choices}) == 1
    assert len(recipe_choices(replace(SHIPPED, dense_drift=0.25))) == 5


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        (columns(LAST_TWO, RIGHT, RIGHT), 1),
        (columns(LAST_TWO, FIRST_TWO), 0),  # as many pairs: the shipped one stays
        (columns(REVERSED, LAST_TWO, RIGHT), 2),
        (columns([1, 1, 1], REVERSED), 0),  # ties count half,
        (columns([1, 1, 1], LAST_TWO), 1),  # no more than that
    ],
)
def test_the_choice_that_orders_most_pairs_is_taken(scores: np.ndarray, chosen: int) -> None:
    assert choose(FULL, scores) == chosen


def test_anchors_that_are_alike_in_full_training_are_no_pair() -> None:
    # Of a and b (alike) and c, only the second choice has both pairs with c.
    scores = columns([1, 3, 2], [2, 1, 3])
    assert choose(np.array([0.70, 0.70, 0.72]), scores) == 1
    assert choose(np.array([0.70, 0.70, 0.70]), scores) == 0
    found = calibration(NAMES, (SHIPPED, Recipe()), np.array([0.70, 0.70, 0.72]), scores)
    assert found.agreements == (0.5, 1.0)


def test_an_anchor_is_scored_under_what_the_others_chose() -> None:
    # Without a, the pair (b, c) speaks for the second choice, which has a before b wrong: 1 of 2
    # pairs. Without b or c the shipped one stays, which has b before c wrong: 1 of 2 pairs each.
    calibrated, shipped, error = left_out_agreements(FULL, columns(LAST_TWO, FIRST_TWO))
    assert calibrated == pytest.approx(1 / 2)
    assert shipped == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    # Differences −1/2, 0, 0: an SD of 1/√12 over three anchors.
    assert error == pytest.approx(1 / 6)


def test_a_calibration_that_does_worse_on_left_out_anchors_is_not_used() -> None:
    other = Recipe(steps_per_step=2.0)
    found = calibration(NAMES, (SHIPPED, other), FULL, columns(REVERSED, RIGHT))
    assert found.agreements == (0.0, 1.0)
    assert (found.left_out_agreement, found.shipped_agreement) == (1.0, 0.0)
    assert found.helps
    assert found.chosen == found.recipe == other
    assert found.gain_error == 0.0
    unsure = replace(found, left_out_agreement=0.7, shipped_agreement=0.6, gain_error=0.11)
    assert not unsure.helps
    assert replace(unsure, gain_error=0.09).helps
    assert not replace(found, left_out_agreement=0.7, shipped_agreement=0.7).helps
    worse = replace(found, left_out_agreement=0.6, shipped_agreement=0.7)
    assert not worse.helps
    assert worse.recipe == SHIPPED


def test_every_anchor_is_run_under_every_choice(ray_cluster: None) -> None:
    log = memory_log()
    rows = DistilledRows(
        train=hard(random_rows(log, 200, seed=1)),
        features=FEATURES,
        recipe=SHIPPED,
        evaluation=evaluation_rows(log, 400),
    )
    lr, dnn, small = CANDIDATES[0], CANDIDATES[2], CANDIDATES[3]
    anchors = {"dnn-small": 0.71, "broken": 0.73, "lr": 0.72, "dnn": 0.70}
    choices, seeds = recipe_choices(SHIPPED), (3, 4)
    scores = np.zeros((4, len(choices)))  # a run that fails is last
    for row, candidate in ((0, small), (2, lr), (3, dnn)):
        for column, recipe in enumerate(choices):
            # Side by side, as rounding may tell a run alone from one among others.
            runs = RunSet((candidate,), seeds, replace(rows, recipe=recipe), "cpu")
            runs.advance(1.0)
            (found_runs,) = runs.results()
            assert not isinstance(found_runs, str)
            scores[row, column] = np.mean([r.evaluation.auc for r in found_runs])
    num_done: list[int] = []
    found = calibrate(
        anchors,
        (lr, CANDIDATES[1], BROKEN, dnn, small),
        rows,
        SearchConfig(seeds=seeds),
        WorkersConfig(),
        num_done.append,
    )
    full = np.array([0.71, 0.73, 0.72, 0.70])
    assert found == calibration(tuple(anchors), choices, full, scores)
    assert sum(num_done) == len(anchors) * len(choices) * len(seeds)


def test_anchors_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "full.yaml"
    path.write_text("anchors: {dnn: 0.7312, lr: [0.70, 0.72], lr-slow: 6.5e-1}")
    found = load_anchors(path, CANDIDATES)
    assert found == pytest.approx({"dnn": 0.7312, "lr": 0.71, "lr-slow": 0.65})


def test_anchors_of_a_comparison(tmp_path: Path) -> None:
    aucs = {"lr": [0.70, 0.72], "lr-again": [0.70, 0.72], "dnn": [0.75], "dnn-small": [0.74]}
    reports = [
        {"name": name, "full": {"auc": auc, "logloss": []}, "counted": name != "lr-again"}
        for name, auc in {**aucs, "lr-slow": []}.items()
    ]
    reports[-1]["counted"] = False
    path = tmp_path / "consistency.json"
    path.write_text(json.dumps({"dataset": "x", "candidates": reports}, indent=1))
    found = load_anchors(path, CANDIDATES)
    assert found == pytest.approx({"lr": 0.71, "dnn": 0.75, "dnn-small": 0.74})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("anchors: {lr: 0.7, dnn: 0.7, dnn-smal: 0.8}", "`dnn-smal` is none .* `dnn-small`"),
        ("anchors: {lr: 0.7, dnn: 0.8}", "2 anchors; give at least 3"),
        ("anchors: {lr: 0.7, dnn: 0.8, lr-slow: 73.1}", "`lr-slow`: expected an AUC .* 73.1"),
        ("anchors: {lr: 0.7, dnn: [0.8, 1.0], lr-slow: 0.6}", "`dnn`: expected an AUC"),
        ("anchors: {lr: 0.7, dnn: [], lr-slow: 0.6}", "`dnn`: expected an AUC"),
        ("anchors: {lr: 0.7, dnn: .nan, lr-slow: 0.6}", "dnn: expected a finite number"),
        ("anchors: {lr: good, dnn: 0.7, lr-slow: 0.6}", "anchors: lr: expected a number"),
        ("anchors: {lr: 0.7, dnn: 0.7, lr-slow: 0.7}", "same AUC"),
        ("anchor: {lr: 0.7}", "unknown key `anchor`; did you mean `anchors`"),
        ("anchors: [lr, dnn]", "anchors: expected keys"),
        ("candidates: [{architecture: lr}]", "neither `anchors:` nor a consistency.json"),
        ("candidates: 3", "neither `anchors:` nor a consistency.json"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "full.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=rf"full\.yaml: .*{words}"):
        load_anchors(path, CANDIDATES)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"full\.yaml: no such file"):
        load_anchors(tmp_path / "full.yaml", CANDIDATES)
