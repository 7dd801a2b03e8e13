from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diet_ray.training.config import OptimizerConfig
from diet_ray.training.recipe import Recipe, matched_recipe, scaled_optimizer, usual_pace


def test_matched_recipe_by_hand() -> None:
    # 1 % of 60,000 rows; 20 slots stand for 2000 rows, four mini-batches of 500.
    recipe = matched_recipe(num_rows_full=60_000, num_slots=600)
    assert (recipe.epochs, recipe.order, recipe.steps_per_step) == (1, "time", 4.0)
    assert [recipe.batch_size_of(b) for b in (500, 1000, 10)] == [20, 40, 1]
    assert recipe.row_visit_fraction == pytest.approx(0.01)
    adam = recipe.optimizer_of(OptimizerConfig(learning_rate=1e-3), 500)
    assert adam.learning_rate == pytest.approx(2e-3)
    # Rounded up from 0.4 rows to one, a step stands for 10 of full training.
    assert recipe.optimizer_of(OptimizerConfig(), 10).beta2 == pytest.approx(1 - 10e-3)


def test_steps_on_a_long_log_stand_for_more_as_long_as_a_thousand_are_left() -> None:
    assert usual_pace(40_000) == usual_pace(512 * 4_000) == 4.0
    assert usual_pace(512 * 8_000) == 8.0
    assert usual_pace(512 * 1_000_000) == 16.0
    recipe = matched_recipe(num_rows_full=512 * 8_000, num_slots=512 * 80)
    assert recipe.steps_per_step == 8.0
    assert -(-512 * 80 // recipe.batch_size_of(512)) == pytest.approx(1_000, rel=0.01)


def test_a_larger_set_makes_more_steps_until_a_step_stands_for_one() -> None:
    paces = {n: matched_recipe(num_rows_full=60_000, num_slots=n) for n in (300, 1_000, 2_000)}
    assert [paces[n].steps_per_step for n in (300, 1_000, 2_000)] == pytest.approx([4.0, 4.0, 2.0])
    # From 1/60 on mini-batches are of one size.
    assert paces[1_000].batch_size_of(600) == paces[2_000].batch_size_of(600) == 40
    finest = matched_recipe(num_rows_full=60_000, num_slots=12_000)
    assert (finest.steps_per_step, finest.batch_size_of(600)) == (1.0, 120)
    # A long log's steps stand for more at every size.
    assert usual_pace(512 * 8_000, 1 / 30) == pytest.approx(4.0)


def test_a_slots_own_label_counts_as_one_of_the_rows_that_it_stands_for() -> None:
    # One label of 1 among five rows whose labels are 0.3 in the mean.
    share = matched_recipe(num_rows_full=60_000, num_slots=12_000).residual_share
    assert 0.3 + share * (1 - 0.3) == pytest.approx((1 + 4 * 0.3) / 5)
    assert matched_recipe(num_rows_full=60_000, num_slots=4_000).residual_share == 0.0


def test_all_rows_of_a_log_are_trained_on_as_in_full_training() -> None:
    recipe = matched_recipe(num_rows_full=100, num_slots=100)
    assert recipe.batch_size_of(512) == 512
    assert recipe.residual_share == 1.0
    adam = recipe.optimizer_of(OptimizerConfig(), 512)
    assert adam == scaled_optimizer(OptimizerConfig(), 1.0)


@given(st.floats(1.0, 2000.0))
def test_scaled_optimizer_follows_the_square_root_rule(kappa: float) -> None:
    base = OptimizerConfig(learning_rate=1e-3, weight_decay=1e-4)
    scaled = scaled_optimizer(base, kappa)
    assert scaled.learning_rate == pytest.approx(1e-3 * math.sqrt(kappa))
    assert scaled.epsilon == pytest.approx(1e-8 / math.sqrt(kappa))
    # Decay per step is learning rate · weight decay: κ times that of a full step.
    decay = scaled.learning_rate * scaled.weight_decay
    assert decay == pytest.approx(kappa * 1e-3 * 1e-4)
    assert scaled.beta1 == pytest.approx(max(0.0, 1 - 0.1 * kappa))
    assert scaled.beta2 == pytest.approx(max(0.0, 1 - 0.001 * kappa))


def test_one_step_for_one_changes_nothing() -> None:
    base = OptimizerConfig(learning_rate=0.01, weight_decay=0.1)
    scaled = scaled_optimizer(base, 1.0)
    assert scaled.beta1 == pytest.approx(base.beta1)
    assert scaled.beta2 == pytest.approx(base.beta2)
    assert (scaled.learning_rate, scaled.weight_decay, scaled.epsilon) == (0.01, 0.1, 1e-8)


@pytest.mark.parametrize(
    "values",
    [{"epochs": 0}, {"batch_share": 0.0}, {"residual_share": -0.1}, {"steps_per_step": 0.0}],
)
def test_impossible_recipes_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Recipe(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [{"learning_rate": 0.0}, {"epsilon": 0.0}, {"weight_decay": -1.0}, {"beta1": 1.0}],
)
def test_impossible_optimizers_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        OptimizerConfig(**values)
