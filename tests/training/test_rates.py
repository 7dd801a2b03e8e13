"""Rates that change along a run: distilled, alone and side by side, and in full training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diet_ray.config import from_mapping, to_mapping
from diet_ray.data.batch import concatenate
from diet_ray.errors import ConfigError
from diet_ray.models.catalogue import Candidate, build, completed
from diet_ray.models.layers import set_dropout
from diet_ray.search.baselines import hard, random_rows
from diet_ray.search.evaluation import evaluate, evaluation_rows
from diet_ray.search.runs import DistilledRun, FullRunConfig, full_run, thinned_run
from diet_ray.search.stacks import Member, StackedRun
from diet_ray.storage import Folder
from diet_ray.training import train_run
from diet_ray.training.config import Rates, TrainConfig
from diet_ray.training.loop import fit, train_step
from diet_ray.training.optimizer import ClickOptimizer
from diet_ray.training.parallel import Peers, TrainPart, TrainWork
from diet_ray.training.recipe import Recipe
from tests.search.memory_log import FEATURES, memory_log
from tests.training.watched_log import log_of

LOG = memory_log()
TRAIN = hard(random_rows(LOG, 200, seed=1))
ROWS = evaluation_rows(LOG, 400)
RECIPE = Recipe(batch_share=1 / 8, steps_per_step=4.0)
LATER = Rates(begin=0.5, learning_rate=0.01, weight_decay=0.2, dropout=0.6)
STEADY = Candidate(name="dnn", architecture="dnn", batch_size=128, dropout=0.2)
CHANGING = replace(STEADY, name="changing", schedule=(LATER,))
AT_ONCE = replace(STEADY, name="at-once", schedule=(replace(LATER, begin=0.0),))


def test_rates_in_force_by_hand() -> None:
    third = replace(LATER, begin=0.8)
    candidate = replace(STEADY, schedule=(LATER, third))
    # Half of 13 steps are 6, eight tenths 10.
    found = [candidate.rates_at(k, 13) for k in range(13)]
    assert found == [STEADY.first_rates] * 6 + [LATER] * 4 + [third] * 3


def test_a_distilled_run_changes_on_its_way() -> None:
    run = DistilledRun(CHANGING, TRAIN, FEATURES, RECIPE, seed=3)
    run.advance(20)
    assert run.num_steps_planned == 13

    model = build(STEADY, FEATURES, seed=3).train()
    optimizer = ClickOptimizer(model, RECIPE.optimizer_of(STEADY.optimizer, 128))
    for step in range(13):
        if step == 6:
            own = LATER.applied_to(STEADY.optimizer)
            optimizer.config = RECIPE.optimizer_of(own, 128)
            set_dropout(model, 0.6)
        rows = slice(16 * step, 16 * step + 16)
        train_step(model, optimizer, TRAIN.batch[rows], TRAIN.target[rows], TRAIN.weight[rows])
    torch.testing.assert_close(run.model.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_side_by_side_each_changes_by_its_own_schedule() -> None:
    members = [Member(c, 3) for c in (CHANGING, STEADY, AT_ONCE)]
    stacked = StackedRun(members, TRAIN, FEATURES, RECIPE)
    stacked.advance(20)
    evaluations = []
    for member, found in zip(members, stacked.results(ROWS), strict=True):
        alone = DistilledRun(member.candidate, TRAIN, FEATURES, RECIPE, seed=3)
        alone.advance(20)
        expected = alone.result(ROWS).evaluation
        assert not isinstance(found, str)
        assert found.evaluation.logloss == pytest.approx(expected.logloss, rel=1e-4)
        evaluations.append(expected.logloss)
    assert len({round(x, 3) for x in evaluations}) == 3


def test_full_training_changes_at_the_same_share() -> None:
    found = full_run(CHANGING, LOG, 3, ROWS, FullRunConfig())
    model = build(STEADY, FEATURES, seed=3)
    optimizer = ClickOptimizer(model, STEADY.optimizer)
    rows = concatenate(list(LOG.batches(LOG.train_stages)))
    # The first mini-batch of 128 that begins beyond half of 2,100 rows is the tenth.
    fit(model, [rows[:1152]], optimizer, 128)
    optimizer.config = LATER.applied_to(STEADY.optimizer)
    set_dropout(model, 0.6)
    fit(model, [rows[1152:]], optimizer, 128)
    assert found.evaluation == evaluate(model, ROWS)
    thinned = thinned_run(CHANGING, LOG, 3, ROWS, FullRunConfig(), fraction=1.0)
    assert thinned.evaluation == found.evaluation


def test_a_training_of_one_candidate_changes_too(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log")
    work = TrainWork(
        candidate=CHANGING,
        log=log,
        seed=3,
        config=TrainConfig(),
        out=tmp_path / "out",
        rows=evaluation_rows(log, 400),
    )
    trained = TrainPart(work, Peers()).run()
    assert trained is not None
    assert work.rows is not None
    expected = full_run(CHANGING, log, 3, work.rows, FullRunConfig())
    assert trained.evaluation == expected.evaluation


def test_a_schedule_is_part_of_what_a_candidate_is() -> None:
    assert CHANGING.identity != STEADY.identity
    assert from_mapping(Candidate, to_mapping(CHANGING), "x") == CHANGING
    # As it was before candidates had one.
    assert "schedule" not in STEADY.identity


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ((LATER, LATER), "each must begin after the last"),
        ((replace(LATER, dropout=0.0),), "dropout must be above 0 where the candidate's is"),
    ],
)
def test_wrong_schedules_are_named(schedule: tuple[Rates, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=f"candidate `dnn`: schedule: {message}"):
        replace(STEADY, schedule=schedule)


@pytest.mark.parametrize("wrong", [{"begin": 1.0}, {"dropout": 1.0}, {"learning_rate": 0.0}])
def test_wrong_rates_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"begin and dropout|learning_rate"):
        replace(LATER, **wrong)


def test_keys_newer_than_a_file_have_their_defaults(tmp_path: Path) -> None:
    newer = ("beta1", "beta2", "epsilon", "field_embedding_sizes", "schedule")
    older = {k: v for k, v in to_mapping(STEADY).items() if k not in newer}
    assert completed(older) == to_mapping(STEADY)
    assert completed({**older, "beta1": 0.5}) == to_mapping(replace(STEADY, beta1=0.5))
    assert completed(None) is None

    log = log_of(tmp_path / "log")
    about = train_run._about(STEADY, log, 0, TrainConfig())
    folder = Folder.at(tmp_path / "out")
    folder.write("run.json", json.dumps({**about, "candidate": older}).encode())
    train_run._claim(folder, about)
