from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diet_ray.errors import ConfigError
from diet_ray.influence.reservoir import Reservoir, _smallest, allocate, uniform


def make(*allocation: int, share: float = 0.5, seed: int = 7) -> Reservoir:
    return Reservoir(allocation=allocation, defensive_share=share, seed=seed)


def draw(
    reservoir: Reservoir, row: np.ndarray, stratum: np.ndarray, score: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    counts = np.bincount(stratum, minlength=len(reservoir.allocation))
    return reservoir.winners(row, stratum, score, counts)


def test_numbers_are_uniform_and_depend_on_the_row_alone():
    rows = np.arange(100_000)
    u = uniform(3, rows)
    assert (uniform(3, rows[::-1])[::-1] == u).all()
    assert 0 < u.min() < u.max() < 1
    # Kolmogorov's distance of 100,000 uniform numbers exceeds 0.0062 once in a thousand.
    assert np.abs(np.sort(u) - (rows + 0.5) / len(rows)).max() < 0.0062
    for other in (uniform(4, rows), uniform(3, rows, stream=1)):
        assert abs(np.corrcoef(u, other)[0, 1]) < 0.015


def test_allocation_by_largest_remainder():
    # Quotas 4.5, 2.7 and 1.8 of 9: the halves go to 0.8, then to 0.7.
    assert allocate(9, np.array([50, 30, 20])).tolist() == [4, 3, 2]
    # Quotas of 10: 9.9 and 0.05 twice; both small strata get one slot, the rest the other.
    assert allocate(10, np.array([5, 990, 0, 5])).tolist() == [1, 8, 0, 1]
    assert allocate(3, np.array([10, 10])).tolist() == [2, 1]


def test_a_budget_below_the_strata_says_both_numbers():
    with pytest.raises(ConfigError, match=r"2 slots .* 3 strata: set a larger budget"):
        allocate(2, np.array([5, 5, 0, 5]))


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=24), st.integers(0, 2000))
def test_allocation_spends_the_budget(rows: list[int], extra: int):
    counts = np.array(rows)
    budget = int((counts > 0).sum()) + extra
    slots = allocate(budget, counts)
    assert slots.sum() == min(budget, counts.sum())
    assert (slots <= counts).all()
    assert (slots[counts > 0] >= 1).all()
    by_rows = np.lexsort((-slots, counts))
    more_rows = np.diff(counts[by_rows]) > 0
    assert (np.diff(slots[by_rows])[more_rows] >= -1).all()


@settings(deadline=None)
@given(data=st.data())
def test_merging_parts_in_any_grouping_is_the_whole(data: st.DataObject):
    num_rows = data.draw(st.integers(1, 60))
    seed = data.draw(st.integers(0, 2**32))
    share = data.draw(st.sampled_from([0.0, 0.3, 0.5, 1.0]))
    allocation = data.draw(st.lists(st.integers(1, 12), min_size=3, max_size=3))
    rng = np.random.default_rng(seed)
    row = rng.permutation(num_rows) + 1_000_000
    stratum = rng.integers(0, 3, num_rows)
    score = rng.choice([0.0, 1e-3, 0.5, 40.0], num_rows).astype(np.float32)
    reservoir = make(*allocation, share=share, seed=seed)

    def kept(rows: np.ndarray) -> np.ndarray:
        return rows[reservoir.candidates(row[rows], stratum[rows], score[rows])]

    group = rng.integers(0, 4, num_rows)
    parts = [kept(np.flatnonzero(group == i)) for i in range(4)]
    left = kept(np.concatenate([kept(np.concatenate([parts[3], parts[0]])), parts[1]]))
    merged = kept(np.concatenate([left, parts[2]]))
    whole = kept(np.arange(num_rows))
    assert set(merged) == set(whole)
    assert len(whole) <= sum(n + 2 for n in allocation)

    counts = np.bincount(stratum, minlength=3)
    at_once, weights = reservoir.winners(row, stratum, score, counts)
    union = np.concatenate(parts)
    index, merged_weights = reservoir.winners(row[union], stratum[union], score[union], counts)
    assert (union[index] == at_once).all()
    assert (merged_weights == weights).all()

    wanted = np.minimum(counts, allocation)
    assert (np.bincount(stratum[at_once], minlength=3) == wanted).all()
    masses = np.bincount(stratum[at_once], weights=weights, minlength=3)
    np.testing.assert_allclose(masses, counts, rtol=1e-12)
    assert (np.diff(row[at_once]) > 0).all()


def test_a_stratum_that_fits_is_kept_whole_at_weight_one():
    row, stratum = np.arange(30), np.repeat([0, 1], [5, 25])
    index, weight = draw(make(5, 4), row, stratum, np.linspace(0.1, 9, 30))
    small = stratum[index] == 0
    assert index[small].tolist() == [0, 1, 2, 3, 4]
    assert (weight[small] == 1).all()


def test_one_slot_stands_for_its_whole_stratum():
    index, weight = draw(make(1), np.arange(50), np.zeros(50, int), np.ones(50))
    assert len(index) == 1
    assert weight.tolist() == [50.0]


@pytest.mark.parametrize(
    ("share", "num_rows", "slots"), [(0.0, 400, 40), (0.5, 400, 40), (1.0, 400, 40), (0.5, 4, 2)]
)
def test_totals_are_unbiased(share: float, num_rows: int, slots: int):
    repetitions = 3000 if slots > 2 else 12_000
    rng = np.random.default_rng(0)
    row, stratum = np.arange(num_rows), np.zeros(num_rows, int)
    score = np.exp(rng.normal(0, 1, num_rows)).astype(np.float32)
    quantity = np.sqrt(score) + rng.normal(0, 0.3, num_rows)
    totals, scaled = np.empty(repetitions), np.empty(repetitions)
    for seed in range(repetitions):
        reservoir = make(slots, share=share, seed=seed)
        index, probability = reservoir.draw(0, row, score)
        totals[seed] = (quantity[index] / probability).sum()
        index, weight = draw(reservoir, row, stratum, score)
        scaled[seed] = (weight * quantity[index]).sum()
    error = np.std(totals) / np.sqrt(repetitions)
    assert abs(np.mean(totals) - quantity.sum()) < 3 * error
    # Weights that add up to the rows make a ratio estimator: a bias of order 1/n for certainty
    # about the mass.
    assert np.mean(scaled) == pytest.approx(quantity.sum(), rel=1.6 / slots)


def test_influential_rows_win_more_often_and_weigh_less():
    num_rows = 2000
    row, stratum = np.arange(num_rows), np.zeros(num_rows, int)
    score = np.where(row % 2 == 0, 10.0, 1.0).astype(np.float32)
    index, weight = draw(make(100, share=0.0), row, stratum, score)
    high = score[index] == 10
    # A tenth as likely, so about one in eleven.
    assert 80 < high.sum() < 98
    assert weight[~high].min() > 5 * weight[high].max()


def test_the_defensive_share_bounds_the_mass_of_a_slot():
    num_rows, slots = 20_000, 400
    rng = np.random.default_rng(1)
    row, stratum = np.arange(num_rows), np.zeros(num_rows, int)
    score = np.exp(rng.normal(0, 3, num_rows)).astype(np.float32)

    def largest(share: float) -> float:
        _, weight = draw(make(slots, share=share), row, stratum, score)
        return float(weight.max() / weight.mean())

    # The bound itself is 1/λ; sampling error of the uniform threshold is about 1/sqrt(λn).
    assert largest(0.5) < 2 * 1.25
    assert largest(0.25) < 4 * 1.25
    assert largest(1.0) == pytest.approx(1.0)
    assert largest(0.0) > 10


def test_rows_of_score_zero_still_fill_the_slots():
    row, stratum = np.arange(100), np.zeros(100, int)
    score = np.zeros(100, np.float32)
    score[:3] = 2.0
    index, weight = draw(make(10, share=0.0), row, stratum, score)
    assert len(index) == 10
    assert {0, 1, 2} <= set(index.tolist())
    assert np.isfinite(weight).all()
    assert weight.sum() == pytest.approx(100)


def test_equal_clocks_go_by_row_number():
    clock, row = np.array([1.0, 0.0, 1.0, 1.0]), np.array([9, 8, 7, 3])
    assert sorted(_smallest(clock, row, 2)) == [1, 3]
