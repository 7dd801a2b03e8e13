from __future__ import annotations

import pytest

from benchmarks.laboratory.recipes import labels, left_out_choice, pooled
from diet_ray.search.anchors import recipe_choices
from diet_ray.training.recipe import matched_recipe


def test_a_logs_own_figures_have_no_say_in_its_choice() -> None:
    tables = {"a": [0.0, 1.0], "b": [0.9, 0.8], "c": [0.7, 0.6]}
    assert left_out_choice(tables, "a") == 0
    assert left_out_choice(tables, "b") == 1


def test_every_choice_has_a_label_of_its_own() -> None:
    choices = recipe_choices(matched_recipe(num_rows_full=600, num_slots=10))
    assert len(set(labels())) == len(labels()) == len(choices)


def test_pooling_keeps_the_worst_log_in_sight() -> None:
    def row(share: float, order: float | None) -> dict[str, float | None]:
        return {"threshold_sds": 2.0, "share_of_pairs": share, "in_order": order}

    (found,) = pooled([[row(0.5, 0.9)], [row(0.7, 0.8)], [row(0.0, None)]])
    assert found["share_of_pairs"] == pytest.approx(0.4)
    assert found["in_order"] == pytest.approx(0.85)
    assert found["in_order_worst"] == 0.8
