"""Distilled runs side by side are the runs that each makes alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from diet_ray.models.catalogue import Candidate
from diet_ray.models.stack import NotStackable
from diet_ray.search import stacks
from diet_ray.search.baselines import hard, random_rows
from diet_ray.search.evaluation import evaluation_rows
from diet_ray.search.runs import RunResult, distilled_run
from diet_ray.search.stacks import Member, StackedRun, like_parts, shape, stack_size
from diet_ray.training.recipe import Recipe
from tests.search.memory_log import FEATURES, memory_log

LOG = memory_log()
TRAIN = hard(random_rows(LOG, 200, seed=1))
ROWS = evaluation_rows(LOG, 400)
RECIPE = Recipe(
    epochs=2, batch_share=1 / 8, steps_per_step=4.0, row_visit_fraction=0.1, dense_drift=0.5
)
DNN = Candidate(name="dnn", architecture="dnn", learning_rate=0.001, batch_size=104, dropout=0.2)
FAST = replace(DNN, name="fast", learning_rate=0.003, weight_decay=0.1, dropout=0.4)
MEMBERS = (Member(DNN, 3), Member(DNN, 4), Member(FAST, 3))


def assert_close(found: RunResult | str, expected: RunResult) -> None:
    assert isinstance(found, RunResult)
    assert (found.name, found.seed) == (expected.name, expected.seed)
    assert (found.row_visits, found.num_steps) == (expected.row_visits, expected.num_steps)
    assert found.evaluation.auc == pytest.approx(expected.evaluation.auc, abs=2e-4)
    assert found.evaluation.logloss == pytest.approx(expected.evaluation.logloss, rel=1e-4)
    assert [r for r, _ in found.curve] == [r for r, _ in expected.curve]
    assert [x for _, x in found.curve] == pytest.approx([x for _, x in expected.curve], rel=1e-4)


@pytest.mark.parametrize("recipe", [RECIPE, Recipe(batch_share=1 / 8)])
def test_runs_side_by_side_are_those_alone(recipe: Recipe) -> None:
    run = StackedRun(MEMBERS, TRAIN, FEATURES, recipe)
    run.advance(run.num_steps_planned)
    assert run.done
    found = run.results(ROWS)
    for member, result in zip(MEMBERS, found, strict=True):
        alone = distilled_run(member.candidate, TRAIN, FEATURES, recipe, ROWS, member.seed)
        assert_close(result, alone)
    aucs = {r.evaluation.auc for r in found if isinstance(r, RunResult)}
    assert len(aucs) == len(MEMBERS)


def test_without_fields_and_in_parts() -> None:
    candidate = replace(DNN, without_fields=("age",))
    members = (Member(candidate, 1), Member(candidate, 2))
    run = StackedRun(members, TRAIN, FEATURES, RECIPE)
    while not run.done:
        run.advance(5)
        run.results(ROWS)
    for member, result in zip(members, run.results(ROWS), strict=True):
        alone = distilled_run(candidate, TRAIN, FEATURES, RECIPE, ROWS, member.seed)
        # A judgement closes a point of the curve.
        assert_close(result, replace(alone, curve=getattr(result, "curve", ())))


def test_seconds_are_shared() -> None:
    run = StackedRun(MEMBERS, TRAIN, FEATURES, RECIPE)
    run.advance(3)
    found = [r for r in run.results(ROWS) if isinstance(r, RunResult)]
    assert sum(r.seconds for r in found) == pytest.approx(
        run.train_seconds + run.evaluation_seconds
    )


def test_a_run_that_diverges_is_told_and_spares_the_others() -> None:
    wild = replace(DNN, name="wild", learning_rate=1e30)
    run = StackedRun((Member(DNN, 0), Member(wild, 0)), TRAIN, FEATURES, RECIPE)
    run.advance(run.num_steps_planned)
    sound, diverged = run.results(ROWS)
    assert isinstance(sound, RunResult)
    assert isinstance(diverged, str)
    assert "not finite" in diverged


def test_shuffled_rows_are_refused() -> None:
    with pytest.raises(NotStackable, match="shuffle"):
        StackedRun(MEMBERS, TRAIN, FEATURES, Recipe(order="shuffle"))
    assert stack_size(DNN, FEATURES, Recipe(order="shuffle")) == 1


def test_shapes_are_told_apart() -> None:
    same = [replace(DNN, learning_rate=0.5), replace(DNN, weight_decay=0.5), replace(DNN, name="x")]
    other = [
        replace(DNN, dropout=0.0),
        replace(DNN, batch_size=64),
        replace(DNN, embedding_size=4),
        replace(DNN, without_fields=("age",)),
        replace(DNN, architecture="deepfm"),
        replace(DNN, beta1=0.8),
        replace(DNN, beta2=0.99),
        replace(DNN, epsilon=1e-6),
    ]
    # As wide, whatever they hold.
    same.append(replace(DNN, field_embedding_sizes={"user": 2}))
    assert {shape(c) for c in same} == {shape(DNN)}
    assert len({shape(c) for c in [DNN, *other]}) == 9


def test_large_tables_limit_a_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stack_size(DNN, FEATURES, RECIPE) == stacks.MAX_STACK
    num_bytes = 8 * 16 * sum(FEATURES.num_ids)
    monkeypatch.setattr(stacks, "MAX_STACK_BYTES", 3 * num_bytes)
    assert stack_size(DNN, FEATURES, RECIPE) == 3
    monkeypatch.setattr(stacks, "MAX_STACK_BYTES", num_bytes // 2)
    assert stack_size(DNN, FEATURES, RECIPE) == 1


def test_parts_are_of_like_sizes() -> None:
    assert [list(p) for p in like_parts(range(7), 3)] == [[0, 1], [2, 3], [4, 5, 6]]
    assert [list(p) for p in like_parts(range(2), 5)] == [[0, 1]]
