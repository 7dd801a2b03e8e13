from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diet_ray.config import from_mapping
from diet_ray.data.sources.config import SourceConfig
from diet_ray.distillation.budget import FRACTIONS, BudgetConfig, Effort
from diet_ray.distillation.config import DistillConfig
from diet_ray.errors import ConfigError


def test_a_share_grows_with_the_stream() -> None:
    budget = BudgetConfig(fraction=0.02, boundary_factor=1.0)
    assert budget.capacity(10_000) == 200
    proposed = [budget.proposed(rows, 2_500) for rows in (0, 2_500, 5_000, 7_500)]
    assert proposed == [50, 50, 50, 50]


def test_a_fixed_number_gives_later_stages_their_share_of_it() -> None:
    budget = BudgetConfig(slots=100, boundary_factor=1.5)
    assert budget.capacity(40) == 40
    assert budget.capacity(10_000) == 100
    assert budget.proposed(0, 1_000) == 150
    assert budget.proposed(1_000, 1_000) == 75
    assert budget.proposed(3_000, 1_000) == 38


@pytest.mark.parametrize(("effort", "slots"), [("low", 50), ("medium", 100), ("high", 667)])
def test_an_effort_is_a_named_share_of_the_rows(effort: Effort, slots: int) -> None:
    budget = BudgetConfig(effort=effort, boundary_factor=2.0)
    assert budget.capacity(10_000) == slots
    spelled = BudgetConfig(fraction=FRACTIONS[effort], boundary_factor=2.0)
    for rows in (0, 777, 5_000):
        assert budget.capacity(rows) == spelled.capacity(rows)
        assert budget.proposed(rows, 2_500) == spelled.proposed(rows, 2_500)


def test_medium_is_the_default() -> None:
    config = DistillConfig(schema=Path("schema.yaml"), source=SourceConfig(paths=("log.parquet",)))
    assert config.budget == BudgetConfig(effort="medium")


def test_never_more_than_the_rows() -> None:
    assert BudgetConfig(fraction=1.0, boundary_factor=2.0).proposed(0, 10) == 10


@pytest.mark.parametrize(
    "values",
    [{"fraction": 0.0}, {"slots": 0}, {"slots": 5, "boundary_factor": 0.5}, {"effort": "hard"}],
)
def test_refuses(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="|".join(values)):
        BudgetConfig(**values)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"fraction": 0.1, "slots": 5},
        {"effort": "low", "fraction": 0.1},
        {"effort": "low", "slots": 5},
        {"effort": "low", "fraction": 0.1, "slots": 5},
    ],
)
def test_a_budget_is_said_in_exactly_one_way(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exactly one of `effort`, `fraction` and `slots`"):
        BudgetConfig(**values)


def test_a_misspelled_effort_is_named() -> None:
    with pytest.raises(ConfigError, match=r"f: budget: effort: 'hihg' .* did you mean `high`"):
        from_mapping(BudgetConfig, {"effort": "hihg"}, "f: budget")
