"""Single runs: what they train on, what they count, and that they repeat."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from diet_ray.data.batch import concatenate
from diet_ray.errors import ConfigError
from diet_ray.models.catalogue import Candidate, build
from diet_ray.search import results
from diet_ray.search.evaluation import evaluate, evaluation_rows
from diet_ray.search.runs import (
    DistilledRun,
    FullRunConfig,
    RunResult,
    TrainingRows,
    distilled_run,
    full_run,
    progressive_run,
    thinned_run,
)
from diet_ray.search.sampling import first_rows
from diet_ray.training.loop import fit, fit_distilled, predict
from diet_ray.training.metrics import log_loss
from diet_ray.training.recipe import Recipe
from tests.search.memory_log import FEATURES, memory_log

LOG = memory_log()
ROWS = evaluation_rows(LOG, 400)
DNN = Candidate(name="dnn", architecture="dnn", batch_size=128, learning_rate=0.01, dropout=0.1)
LR = Candidate(name="lr", architecture="lr", batch_size=128, learning_rate=0.1)


def distilled_rows(num_rows: int = 100) -> TrainingRows:
    batch = concatenate(list(first_rows(LOG, num_rows)))
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(num_rows, generator=generator) + 0.5
    return TrainingRows(batch, batch.label * 0.8 + 0.1, weight)


def without_seconds(result: RunResult) -> RunResult:
    return dataclasses.replace(result, train_seconds=0.0, evaluation_seconds=0.0, cpu_seconds=0.0)


def test_a_full_run_is_one_pass_in_time_order() -> None:
    found = full_run(DNN, LOG, 3, ROWS, FullRunConfig())
    model = build(DNN, FEATURES, 3)
    fit(model, LOG.batches(LOG.train_stages), DNN.optimizer, 128)
    assert found.evaluation == evaluate(model, ROWS)
    assert found.row_visits == LOG.num_train_rows
    assert found.num_steps == -(-LOG.num_train_rows // 128)
    assert found.seconds == found.train_seconds + found.evaluation_seconds > 0
    assert (found.name, found.seed) == ("dnn", 3)
    assert found.evaluation.auc > 0.6


def test_full_runs_repeat_bit_for_bit_and_differ_by_seed() -> None:
    runs = [full_run(DNN, LOG, seed, ROWS, FullRunConfig()) for seed in (1, 1, 2)]
    assert without_seconds(runs[0]) == without_seconds(runs[1])
    assert runs[0].evaluation.auc != runs[2].evaluation.auc


def test_epochs_and_batch_size_of_full_runs() -> None:
    found = full_run(DNN, LOG, 0, ROWS, FullRunConfig(epochs=2, batch_size=2100))
    assert found.row_visits == 2 * LOG.num_train_rows
    assert found.num_steps == 2


@pytest.mark.parametrize("order", ["time", "shuffle"])
def test_a_distilled_run_follows_its_recipe(order: str) -> None:
    recipe = Recipe(epochs=2, batch_share=1 / 8, order=order, steps_per_step=4.0)
    train = distilled_rows()
    found = distilled_run(DNN, train, FEATURES, recipe, ROWS, 5)
    model = build(DNN, FEATURES, 5)
    fitted = fit_distilled(
        model, train.batch, train.target, train.weight, recipe, DNN.optimizer, 128, 5
    )
    assert found.evaluation == evaluate(model, ROWS)
    assert found.row_visits == fitted.num_rows == 200
    assert found.num_steps == fitted.num_steps == 14
    assert [r for r, _ in found.curve] == [r for r, _ in fitted.loss_curve]
    assert [x for _, x in found.curve] == pytest.approx([x for _, x in fitted.loss_curve])


def test_a_run_in_parts_is_the_same_run() -> None:
    recipe = Recipe(batch_share=1 / 8)
    whole = distilled_run(DNN, distilled_rows(), FEATURES, recipe, ROWS, 5)
    run = DistilledRun(DNN, distilled_rows(), FEATURES, recipe, 5)
    for _ in range(3):
        run.advance(3)
        run.result(ROWS)
    assert run.done
    run.advance(10)
    found = run.result(ROWS)
    assert found.evaluation == whole.evaluation
    assert found.row_visits == 100


def test_a_thinned_run_visits_its_share_and_at_one_is_the_full_run() -> None:
    full = full_run(DNN, LOG, 1, ROWS, FullRunConfig())
    whole = thinned_run(DNN, LOG, 1, ROWS, FullRunConfig(), fraction=1.0)
    assert whole.evaluation == full.evaluation
    part = thinned_run(DNN, LOG, 1, ROWS, FullRunConfig(), fraction=0.25)
    assert part.row_visits == pytest.approx(0.25 * LOG.num_train_rows, rel=0.15)
    assert part.evaluation.auc != full.evaluation.auc


def test_progressive_losses_are_of_predictions_before_training() -> None:
    first = concatenate(list(first_rows(LOG, 400)))
    config = FullRunConfig(batch_size=100)
    losses, seconds = progressive_run(LR, first, FEATURES, 0, config, num_slices=4)
    model = build(LR, FEATURES, 0)
    for i in range(4):
        rows = first[100 * i : 100 * (i + 1)]
        assert losses[i] == pytest.approx(log_loss(rows.label, predict(model, rows)))
        model = build(LR, FEATURES, 0)
        fit(model, [first[: 100 * (i + 1)]], LR.optimizer, 100)
    assert losses.shape == (4,)
    assert seconds > 0


def test_results_survive_json() -> None:
    found = full_run(DNN, LOG, 3, ROWS, FullRunConfig())
    assert results.from_json(json.loads(json.dumps(results.to_json(found)))) == found
    with pytest.raises(ConfigError, match="result: missing key `seed`"):
        results.from_json({"name": "x"})


def test_a_candidate_without_a_field_does_not_see_it() -> None:
    """Whatever the field holds, the runs of both arms are the same."""
    blind = dataclasses.replace(DNN, without_fields=(FEATURES.categorical[0],))
    assert blind.identity != DNN.identity
    train = distilled_rows()
    recipe = Recipe(batch_share=1 / 8)
    found = distilled_run(blind, train, FEATURES, recipe, ROWS, 5)
    ids = train.batch.categorical.clone()
    ids[:, 0] = 0
    changed = dataclasses.replace(train, batch=dataclasses.replace(train.batch, categorical=ids))
    again = distilled_run(blind, changed, FEATURES, recipe, ROWS, 5)
    assert again.evaluation == found.evaluation
    assert distilled_run(DNN, changed, FEATURES, recipe, ROWS, 5).evaluation != (
        distilled_run(DNN, train, FEATURES, recipe, ROWS, 5).evaluation
    )
    assert full_run(blind, LOG, 1, ROWS, FullRunConfig()).row_visits == LOG.num_train_rows
