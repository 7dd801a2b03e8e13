from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from diet_ray.influence.low_rank import LowRank, Moments, Screen, best_low_rank

ERROR = 1e-4


def correlated(num_rows: int, size: int, seed: int) -> Tensor:
    """(num_rows, size) float64, of axes that are neither orthogonal nor equally long."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=generator, dtype=torch.float64)
    scale = 2.0 ** -torch.arange(size, dtype=torch.float64)
    return torch.randn(num_rows, size, generator=generator, dtype=torch.float64) * scale @ mixing


def product(projection: LowRank, rows: Tensor, slots: Tensor) -> Tensor:
    return projection.rows(rows) @ projection.slots(slots).T


def test_sums_over_rows_and_over_slots():
    rows = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.0, 1.0]])
    slots = torch.tensor([[1.0, 1.0], [2.0, -1.0]])
    # G Sᵀ = [[3, 0], [2, 7], [1, -1]]
    moments = Moments.of(rows[:1]) + Moments.of(rows[1:])
    assert moments.num_rows == 3
    assert moments.influence_sum(slots).tolist() == [6.0, 6.0]
    assert moments.influence_square_sum(slots).tolist() == [14.0, 50.0]
    assert Moments.of(slots).influence_sum(rows).tolist() == [3.0, 9.0, 0.0]


def test_sums_are_taken_in_float64():
    rows = torch.tensor([[2.0**24], [1.0], [1.0]])
    assert Moments.of(rows).influence_sum(torch.ones(1, 1)).item() == 2**24 + 2


def test_the_axis_kept_is_that_of_the_largest_product():
    # C_G = diag(16, 1), C_S = diag(1, 36): σ = (4, 6), although the rows' own longest axis is 0.
    rows = Moments.of(torch.tensor([[4.0, 0.0], [0.0, 1.0]]))
    slots = Moments.of(torch.tensor([[1.0, 0.0], [0.0, 6.0]]))
    projection = best_low_rank(rows, slots, rank=1)
    one = projection.row_map @ projection.slot_map.T
    assert_close(one, torch.diag(torch.tensor([0.0, 1.0], dtype=torch.float64)))
    assert math.isclose(projection.relative_error(rows, slots), 4 / math.sqrt(4**2 + 6**2))


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_the_product_is_the_best_of_its_rank(rank: int):
    rows, slots = correlated(40, 6, seed=0), correlated(15, 6, seed=1)
    influences = rows @ slots.T
    left, sigma, right = torch.linalg.svd(influences, full_matrices=False)
    expected = left[:, :rank] * sigma[:rank] @ right[:rank]
    projection = best_low_rank(Moments.of(rows), Moments.of(slots), rank)
    assert_close(product(projection, rows, slots), expected, rtol=1e-6, atol=1e-8)


def test_the_error_is_that_of_the_matrix_also_beyond_what_was_fitted():
    rows, slots = correlated(40, 6, seed=0), correlated(15, 6, seed=1)
    projection = best_low_rank(Moments.of(rows), Moments.of(slots), rank=2)
    others = correlated(30, 6, seed=2)
    for seen in (rows, others):
        influences = seen @ slots.T
        error = (influences - product(projection, seen, slots)).norm() / influences.norm()
        stated = projection.relative_error(Moments.of(seen), Moments.of(slots))
        assert math.isclose(stated, float(error), rel_tol=1e-8)


def test_features_that_are_always_zero_do_no_harm():
    rows, slots = correlated(20, 4, seed=0), correlated(10, 4, seed=1)
    rows[:, 1] = 0.0
    slots[:, 2] = 0.0
    projection = best_low_rank(Moments.of(rows), Moments.of(slots), rank=4)
    assert_close(product(projection, rows, slots), rows @ slots.T)
    nothing = Moments.of(torch.zeros(3, 4))
    assert best_low_rank(nothing, nothing, rank=2).relative_error(nothing, nothing) == 0.0


def test_projections_keep_the_dtype():
    projection = best_low_rank(*(Moments.of(correlated(9, 4, seed)) for seed in (0, 1)), rank=2)
    assert projection.rows(torch.ones(5, 4)).dtype == torch.float32
    assert projection.slots(torch.ones(5, 4).double()).shape == (5, 2)


def screen(slots: Tensor, threshold: Tensor, rows: Tensor, tile_size: int = 2**18) -> list[int]:
    """Rows that may reach a threshold (2M,)."""
    screen = Screen(slots, ERROR, tile_size)
    screen.set_thresholds(threshold.double())
    norm = rows.double().norm(dim=1)
    order = norm.argsort(descending=True)
    return sorted(screen.passes(rows.double(), norm, order).tolist())


def test_rows_that_are_too_short_or_point_elsewhere_are_excluded():
    slots = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    rows = torch.tensor(
        [
            [3.0, 0.0, 0.0, 0.0],  # reaches slot 0
            [1.9, 0.0, 0.0, 0.0],  # too short
            [0.0, -3.0, 0.0, 0.0],  # reaches the opposite of slot 1
            [0.0, 0.0, 9.0, 0.0],  # long, but at right angles to both
            [-3.0, 0.0, 0.0, 0.0],  # reaches the opposite of slot 0, but for its higher threshold
        ]
    )
    threshold = torch.tensor([2.0, 4.0, 4.0, 2.0])
    assert screen(slots, threshold, rows) == [0, 2]


@pytest.mark.parametrize(("quarters_reaching", "num_left"), [(3, 64), (1, 16)])
def test_a_screen_that_excludes_little_is_left_out(quarters_reaching: int, num_left: int):
    slots = torch.eye(4)[:1]
    axis = (torch.arange(4) >= quarters_reaching).long().repeat_interleave(16)
    rows = torch.eye(4)[axis] * torch.linspace(2, 1, 64)[:, None]
    assert len(screen(slots, torch.tensor([0.5, 9.0]), rows)) == num_left


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    size=st.integers(1, 24),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    magnitude=st.sampled_from([1e-12, 1.0, 1e8]),
)
def test_no_row_that_reaches_a_threshold_is_excluded(
    seed: int, size: int, dtype: torch.dtype, magnitude: float
):
    slots = correlated(5, size, seed).to(dtype)
    # Rows along a slot reach both bounds: nothing but rounding lies between.
    along = slots.repeat(8, 1) * torch.linspace(-2, 2, 40)[:, None].to(dtype)
    rows = magnitude * torch.cat([along, correlated(160, size, seed + 1).to(dtype)])
    influences = slots.double() @ rows.double().T
    for rank in (1, 4, 20):
        threshold = torch.cat([influences, -influences]).topk(rank, dim=1).values[:, -1]
        reaches = torch.cat([influences, -influences]) >= threshold[:, None]
        kept = screen(slots, threshold, rows, tile_size=1)
        assert set(reaches.any(0).nonzero()[:, 0].tolist()) <= set(kept)
