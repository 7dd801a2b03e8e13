"""Baselines: rows, recipes, costs and scores of each."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from diet_ray.config import to_mapping
from diet_ray.search import baselines
from diet_ray.search.agreement import Arm
from diet_ray.search.baselines import (
    Setting,
    halving_fractions,
    halving_score,
    mean_ranks,
    parameter_counts,
    relative_score,
    sample_recipes,
)
from diet_ray.search.evaluation import evaluation_rows
from diet_ray.search.runs import FullRunConfig, distilled_run, thinned_run
from diet_ray.search.workers import WorkersConfig, run_tasks
from diet_ray.training.recipe import Recipe
from tests.search.candidates import BROKEN, CANDIDATES, DEADLY
from tests.search.memory_log import FEATURES, memory_log

LOG = memory_log()
RATES = (0.003, 0.03, 0.3, 1.0)
RECIPE = Recipe(batch_share=1 / 8, residual_share=0.2, steps_per_step=4.0)


def setting(candidates=CANDIDATES, seeds=(7, 8)) -> Setting:
    return Setting(
        candidates=tuple(candidates),
        seeds=seeds,
        log=LOG,
        evaluation=evaluation_rows(LOG, 400),
        full=FullRunConfig(),
        workers=WorkersConfig(num_workers=2, use_gpu=False),
    )


def arm(means: list[float]) -> Arm:
    runs = np.array(means)[:, None].repeat(2, axis=1)
    return Arm(ranking=runs, regret=runs, blocks=np.empty((*runs.shape, 0)))


def test_rows_of_the_sample_baselines() -> None:
    drawn = baselines.random_rows(LOG, 50, seed=1)
    assert len(drawn) == 50
    recent = baselines.recent_rows(LOG, 30)
    np.testing.assert_array_equal(recent.label.numpy(), LOG.table["_label"].to_numpy()[2070:2100])
    hard = baselines.hard(drawn)
    assert torch.equal(hard.target, drawn.label)
    soft = baselines.soft(drawn, lambda batch: batch.numeric[:, 0])
    assert torch.equal(soft.target, torch.sigmoid(drawn.numeric[:, 0]))
    assert torch.equal(soft.weight, torch.ones(50))
    mixed = baselines.soft(drawn, lambda batch: batch.numeric[:, 0], residual_share=0.25)
    torch.testing.assert_close(mixed.target, 0.75 * soft.target + 0.25 * drawn.label)


def test_recipes_of_the_samples_take_as_many_steps() -> None:
    recipes = sample_recipes(RECIPE)
    assert {(r.epochs, r.batch_share, r.residual_share) for r in recipes} == {(1, 1 / 8, 0.0)}
    assert [r.steps_per_step for r in recipes] == [1.0, 4.0, 16.0, 4.0, 4.0]
    assert [r.order for r in recipes] == ["time", "time", "time", "shuffle", "time"]
    # What the set's own recipe does to steps, its samples may do, too.
    assert recipes[-1] == dataclasses.replace(RECIPE, residual_share=0.0)
    assert not any(r.bounded_table or r.dense_drift or r.table_drift for r in recipes[:-1])
    # A place means the same recipe at every size, also where two of them are one.
    assert [r.steps_per_step for r in sample_recipes(Recipe())] == [1.0, 1.0, 4.0, 1.0, 1.0]


def test_relative_scores_by_hand() -> None:
    # The second slice is harder for all and twice as spread, yet counts as much as the first.
    losses = np.array([[0.4, 1.6], [0.6, 1.2], [0.5, 1.4]])
    np.testing.assert_allclose(relative_score(losses), [0.0, 0.0, 0.0], atol=1e-9)
    losses[1, 1] = 1.3
    assert np.argmax(relative_score(losses)) == 2
    with_failure = relative_score(np.array([[0.4, 0.4], [np.nan, np.nan], [0.6, 0.6]]))
    assert np.isnan(with_failure[1])
    assert with_failure[0] == pytest.approx(1.0)
    assert relative_score(np.ones((2, 3))).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("num_candidates", [2, 3, 5, 12])
def test_halving_costs_what_one_pass_of_all_at_the_fraction_costs(num_candidates: int) -> None:
    rungs = halving_fractions(num_candidates, 0.01)
    assert sum(n * share for n, share in rungs) == pytest.approx(num_candidates * 0.01)
    assert rungs[0][0] == num_candidates
    assert rungs[-1][0] == 2
    shares = [share for _, share in rungs]
    assert shares == sorted(shares)
    assert max(share for _, share in halving_fractions(num_candidates, 0.9)) <= 1.0


def test_prior_by_size_and_by_rank_elsewhere() -> None:
    counts = parameter_counts(CANDIDATES, FEATURES)
    assert counts[2] > counts[3] > counts[0] == counts[4]

    def report(**auc: float) -> dict:
        return {"candidates": [{"name": k, "full": {"auc": [v, v]}} for k, v in auc.items()]}

    reports = [report(lr=0.6, dnn=0.7, other=0.5), report(lr=0.6, dnn=0.6)]
    found = mean_ranks(CANDIDATES[:3], reports)
    assert found[0] == pytest.approx(-(0.5 + 0.5) / 2)
    assert math.isnan(found[1])
    assert found[2] == pytest.approx(-(0.0 + 0.5) / 2)
    two = (CANDIDATES[0], CANDIDATES[2])
    assert baselines.prior(setting(two), reports).details["by"] == "mean_rank"
    assert baselines.prior(setting(), reports).details["by"] == "num_parameters"


def _double(shared: list[int], item: int) -> int:
    if item == 2:
        raise ValueError("two\nlines")
    return shared[0] * item


def test_tasks_keep_their_order_and_failures_stay_their_own(ray_cluster: None) -> None:
    found = run_tasks(_double, [10], [3, 2, 1], WorkersConfig(num_workers=2))
    assert found == [30, "ValueError: two lines", 10]


def test_sample_baseline_is_the_mean_over_seeds_under_its_best_recipe(ray_cluster: None) -> None:
    train = baselines.hard(baselines.random_rows(LOG, 100, seed=1))
    rates = [dataclasses.replace(CANDIDATES[0], name=f"{r}", learning_rate=r) for r in RATES]
    used = setting((*rates, BROKEN))
    by_recipe = []
    for recipe in sample_recipes(RECIPE):
        runs = [
            [
                distilled_run(c, train, FEATURES, recipe, used.evaluation, s).evaluation.auc
                for s in used.seeds
            ]
            for c in rates
        ]
        by_recipe.append(np.mean(runs, axis=1))
    # Held against one recipe's own results upside down, another recipe wins.
    reference = -by_recipe[0]
    agreement = [kendalltau(reference, means).statistic for means in by_recipe]
    best = int(np.argmax(agreement))
    assert best > 0
    found = baselines.few_rows(used, train, RECIPE, arm([*reference, -1.0]))
    np.testing.assert_allclose(found.score[:4], by_recipe[best], atol=1e-3)
    assert found.details["recipe"] == to_mapping(sample_recipes(RECIPE)[best])
    assert np.isnan(found.score[4])
    assert found.row_visits == 100
    assert found.seconds > 0


def test_early_stop_prefers_what_learns(ray_cluster: None) -> None:
    first = baselines.joined(LOG.batches(LOG.train_stages[:1]))
    found = baselines.early_stop(setting((CANDIDATES[4], CANDIDATES[0], BROKEN)), first)
    assert found.score[1] > found.score[0]
    assert np.isnan(found.score[2])
    assert found.row_visits == 1200


def test_equal_amortised_and_halving_train_on_thinned_streams(ray_cluster: None) -> None:
    used = setting((*CANDIDATES[2:], BROKEN))
    fraction = 0.5
    found = baselines.equal_amortised(used, fraction)
    expected = [
        [
            thinned_run(c, LOG, s, used.evaluation, used.full, fraction=fraction).evaluation.auc
            for s in used.seeds
        ]
        for c in CANDIDATES[2:]
    ]
    np.testing.assert_allclose(found.score[:3], np.mean(expected, axis=1))
    assert np.isnan(found.score[3])

    halved = baselines.halving(used, fraction)
    assert halved.details["rungs"][0] == {"candidates": 4, "stream_fraction": 0.25}
    survivors = np.flatnonzero(halved.score >= 2.0)
    assert len(survivors) == 2
    assert np.isnan(halved.score[3])
    thin = [
        np.mean(
            [
                thinned_run(c, LOG, s, used.evaluation, used.full, fraction=0.25).evaluation.auc
                for s in used.seeds
            ]
        )
        for c in CANDIDATES[2:]
    ]
    assert set(survivors) == set(np.argsort(thin)[-2:])


def test_a_task_whose_process_dies_is_one_failure(ray_cluster: None) -> None:
    found = baselines.equal_amortised(setting((CANDIDATES[0], DEADLY), seeds=(0,)), 0.5)
    assert np.isfinite(found.score).tolist() == [True, False]


def test_halving_ends_where_no_run_came_through() -> None:
    judged: list[list[int]] = []

    def judge(alive: list[int], share: float) -> np.ndarray:
        judged.append(alive)
        return np.full(len(alive), np.nan)

    score = halving_score(4, [(4, 0.1), (2, 0.2)], judge)
    assert judged == [[0, 1, 2, 3]]
    assert np.isnan(score).all()
