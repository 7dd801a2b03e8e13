from __future__ import annotations

import pytest

from diet_ray.distillation.budget import BudgetConfig


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


def test_never_more_than_the_rows() -> None:
    assert BudgetConfig(fraction=1.0, boundary_factor=2.0).proposed(0, 10) == 10


@pytest.mark.parametrize(
    "values",
    [{}, {"fraction": 0.1, "slots": 5}, {"fraction": 0.0}, {"slots": 0},
     {"slots": 5, "boundary_factor": 0.5}],
)  # fmt: skip
def test_refuses(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"fraction|slots|boundary_factor"):
        BudgetConfig(**values)  # type: ignore[arg-type]
