"""Ranking statistics against scipy, hand-computed numbers, and methods of known quality."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from diet_ray.search.agreement import Arm, ceiling, fidelity, intervals
from diet_ray.search.statistics import (
    bootstrap_interval,
    distinct,
    kendall_tau,
    leave_one_seed_out,
    pair_accuracy,
    pooled_seed_sd,
    resolved_pairs,
    spearman_rho,
    top1_regret,
    top_k_overlap,
)


def values(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=np.float64)


tied_lists = st.integers(2, 12).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 5), min_size=n, max_size=n) for _ in range(2)])
)


@given(tied_lists)
def test_correlations_are_scipys_with_any_ties(lists: tuple[list[int], list[int]]) -> None:
    a, b = np.array(lists[0], float), np.array(lists[1], float)
    for ours, theirs in ((kendall_tau, stats.kendalltau), (spearman_rho, stats.spearmanr)):
        if len(set(a)) == 1 or len(set(b)) == 1:
            assert ours(a, b) is None
        else:
            assert ours(a, b) == pytest.approx(theirs(a, b).statistic)


def test_tau_over_some_pairs_by_hand() -> None:
    reference, score = values(1, 2, 3), values(1, 3, 2)
    pairs = np.zeros((3, 3), dtype=bool)
    pairs[0, 1] = pairs[1, 0] = pairs[1, 2] = pairs[2, 1] = True
    assert kendall_tau(reference, score) == pytest.approx(1 / 3)
    assert kendall_tau(reference, score, pairs) == pytest.approx(0.0)
    assert kendall_tau(reference, score, np.zeros((3, 3))) is None


def test_pooled_seed_sd_by_hand() -> None:
    # Variances over seeds: 2 and 8, mean 5.
    assert pooled_seed_sd(np.array([[1.0, 3.0], [2.0, 6.0]])) == pytest.approx(5**0.5)
    assert pooled_seed_sd(np.array([[1.0], [2.0]])) is None


def test_a_pair_is_resolved_beyond_two_standard_errors() -> None:
    # Standard error of a difference of means of two seeds: 1 · √(2/2) = 1.
    resolved = resolved_pairs(values(0.0, 1.9, 2.1), 2, 1.0)
    assert resolved.tolist() == [[False, False, True], [False, False, False], [True, False, False]]
    assert resolved_pairs(values(0.0, 1.9, 2.1), 8, 1.0)[0, 1]
    assert not resolved_pairs(values(0.0, 9.0), 1, None).any()


def test_pair_accuracy_counts_a_tie_of_the_method_half() -> None:
    reference = values(1, 2, 3)
    every = ~np.eye(3, dtype=bool)
    assert pair_accuracy(reference, values(1, 2, 3), every) == 1.0
    assert pair_accuracy(reference, values(3, 2, 1), every) == 0.0
    assert pair_accuracy(reference, values(1, 1, 3), every) == pytest.approx(2.5 / 3)
    assert pair_accuracy(reference, values(1, 2, 3), np.zeros((3, 3))) is None


def test_regret_and_overlap_by_hand() -> None:
    reference = values(0.70, 0.69, 0.65, 0.60)
    assert top1_regret(reference, values(1, 2, 0, 0)) == pytest.approx(0.01)
    assert top1_regret(reference, values(1, 1, 0, 0)) == pytest.approx(0.005)
    assert top_k_overlap(reference, values(4, 3, 2, 1)) == 1.0
    assert top_k_overlap(reference, values(1, 2, 3, 4)) == pytest.approx(2 / 3)
    # All tied: each has 3/4 of a place.
    assert top_k_overlap(reference, np.zeros(4)) == pytest.approx(0.75)
    assert top_k_overlap(reference[:2], np.zeros(2)) is None
    assert top1_regret(np.empty(0), np.empty(0)) is None


def test_one_model_under_two_names_counts_once() -> None:
    assert distinct(["lr", "fm", "lr", "fm", "dcn"]) == [0, 1, 4]


def test_leave_one_seed_out_never_resolves_on_the_held_out_seed() -> None:
    runs = np.array([[0.0, 0.0, 9.0], [1.0, 1.2, -9.0], [5.0, 5.2, 0.0]])
    folds = list(leave_one_seed_out(runs))
    held_out, reference, resolved = folds[2]
    np.testing.assert_allclose(held_out, runs[:, 2])
    np.testing.assert_allclose(reference, [0.0, 1.1, 5.1])
    # Seed SD of the other two: √(mean(0, 0.02, 0.02)) = 0.1155; the wild seed would be 7.
    assert resolved.sum() == 6
    assert not folds[0][2].any()
    assert list(leave_one_seed_out(runs[:, :1])) == []


def test_two_seeds_share_a_pooled_sd_but_not_the_difference() -> None:
    runs = np.array([[0.0, 1.0], [2.5, 0.0], [9.0, 9.0]])
    seed_sd = pooled_seed_sd(runs)
    assert seed_sd is not None
    for seed, (held_out, reference, resolved) in enumerate(leave_one_seed_out(runs)):
        np.testing.assert_allclose(held_out, runs[:, seed])
        np.testing.assert_allclose(reference, runs[:, 1 - seed])
        difference = abs(reference[0] - reference[2])
        assert resolved[0, 2] == (difference > 2 * seed_sd * 2**0.5)


def arm(ranking: np.ndarray, regret: np.ndarray | None = None) -> Arm:
    return Arm(
        ranking=ranking,
        regret=ranking if regret is None else regret,
        blocks=np.empty((*ranking.shape, 0)),
    )


@pytest.fixture
def full() -> Arm:
    rng = np.random.default_rng(0)
    quality = np.linspace(0.68, 0.70, 12)
    return arm(quality[:, None] + rng.normal(0, 0.002, (12, 3)))


def test_a_perfect_an_inverted_and_a_random_method(full: Arm) -> None:
    truth = full.ranking.mean(axis=1)
    perfect, inverted = fidelity(full, truth), fidelity(full, -truth)
    assert perfect["kendall_tau"] == perfect["resolved_pair_accuracy"] == 1.0
    assert perfect["top1_regret"] == 0.0
    assert perfect["top3_overlap"] == 1.0
    assert inverted["kendall_tau"] == -1.0
    assert inverted["resolved_pair_accuracy"] == 0.0
    assert inverted["top1_regret"] == pytest.approx(np.ptp(truth))
    rng = np.random.default_rng(1)
    random = [fidelity(full, rng.normal(size=12)) for _ in range(200)]
    assert np.mean([r["kendall_tau"] for r in random]) == pytest.approx(0.0, abs=0.06)
    assert np.mean([r["resolved_pair_accuracy"] for r in random]) == pytest.approx(0.5, abs=0.04)


def test_ceiling_is_a_seed_against_the_others(full: Arm) -> None:
    runs = full.ranking
    expected = np.mean(
        [
            stats.kendalltau(runs[:, s], np.delete(runs, s, axis=1).mean(axis=1)).statistic
            for s in range(3)
        ]
    )
    found = ceiling(full)
    assert found["kendall_tau_ceiling"] == pytest.approx(expected)
    assert found["seed_sd"] == pytest.approx(pooled_seed_sd(runs))
    assert found["num_pairs"] == 66
    assert 0 < found["num_resolved_pairs"] < 66


def test_matched_figures_and_ceilings_of_three_seeds_by_hand() -> None:
    runs = np.array([[0.0, 0.0, 4.0], [1.0, 1.0, 1.0], [6.0, 6.0, 6.0], [9.0, 9.0, 9.0]])
    # The others' means are (2, 1, 6, 9) without the first or second seed, where the seed SD √2
    # resolves all pairs but one, and (0, 1, 6, 9) without the third, where it is 0.
    found = fidelity(arm(runs), values(1, 2, 4, 3))
    assert found["kendall_tau"] == pytest.approx(2 / 6)
    assert found["kendall_tau_matched"] == pytest.approx(np.mean([2 / 6, 2 / 6, 4 / 6]))
    assert found["spearman_rho"] == pytest.approx(0.6)
    assert found["spearman_rho_matched"] == pytest.approx(np.mean([0.6, 0.6, 0.8]))
    assert found["resolved_pair_accuracy"] == pytest.approx(4 / 5)
    assert found["resolved_pair_accuracy_matched"] == pytest.approx(np.mean([4 / 5, 4 / 5, 5 / 6]))
    # The seeds themselves: one pair of six is in the other order, the unresolved one twice.
    highest = ceiling(arm(runs))
    assert highest["kendall_tau_ceiling"] == pytest.approx(4 / 6)
    assert highest["spearman_rho_ceiling"] == pytest.approx(0.8)
    assert highest["resolved_pair_accuracy_ceiling"] == pytest.approx(np.mean([1, 1, 5 / 6]))


def test_a_noiseless_method_can_exceed_the_ceiling_even_matched(full: Arm) -> None:
    noiseless = fidelity(full, np.linspace(0, 1, 12))
    assert noiseless["kendall_tau_matched"] is not None
    assert ceiling(full)["kendall_tau_ceiling"] is not None
    assert noiseless["kendall_tau_matched"] > ceiling(full)["kendall_tau_ceiling"]


def test_a_held_out_full_run_scores_the_ceiling_on_its_own_fold() -> None:
    rng = np.random.default_rng(3)
    runs = np.linspace(0, 1, 10)[:, None] + rng.normal(0, 0.2, (10, 2))
    by_hand = [fidelity(arm(runs[:, [1 - s]]), runs[:, s])["kendall_tau"] for s in range(2)]
    assert ceiling(arm(runs))["kendall_tau_ceiling"] == pytest.approx(np.mean(by_hand))


def test_regret_is_taken_on_the_later_slice() -> None:
    ranking = np.array([[0.9, 0.9], [0.8, 0.8]])
    regret = np.array([[0.6, 0.6], [0.7, 0.7]])
    found = fidelity(arm(ranking, regret), values(2, 1))
    assert found["top1_regret"] == pytest.approx(0.1)
    assert ceiling(arm(ranking, regret))["top1_regret_ceiling"] == pytest.approx(0.1)


def test_one_seed_leaves_what_needs_seeds_empty(full: Arm) -> None:
    single = arm(full.ranking[:, :1])
    found = fidelity(single, full.ranking[:, 1])
    assert found["kendall_tau"] is not None
    assert found["resolved_pair_accuracy"] is None
    assert found["kendall_tau_matched"] is None
    assert ceiling(single)["kendall_tau_ceiling"] is None
    assert ceiling(single)["seed_sd"] is None
    assert ceiling(single)["num_resolved_pairs"] == 0


def test_a_mask_restricts_pairs_and_empties_list_figures(full: Arm) -> None:
    pairs = np.zeros((12, 12), dtype=bool)
    pairs[0, 11] = pairs[11, 0] = True
    score = np.zeros(12)
    score[11] = 1.0
    found = fidelity(full, score, pairs)
    assert found["kendall_tau"] == found["resolved_pair_accuracy"] == 1.0
    assert found["spearman_rho"] is None
    assert found["top1_regret"] is None
    assert ceiling(full, pairs)["num_resolved_pairs"] == 1


def test_intervals_hold_the_estimate_and_narrow_with_candidates() -> None:
    widths = []
    for num_candidates in (8, 64):
        rng = np.random.default_rng(5)
        quality = rng.normal(size=num_candidates)
        full = arm(quality[:, None] + rng.normal(0, 0.3, (num_candidates, 2)))
        method = arm(quality[:, None] + rng.normal(0, 0.8, (num_candidates, 2)))
        estimate = fidelity(full, method.ranking.mean(axis=1))["kendall_tau"]
        found = intervals(full, method, num_replicates=200)["kendall_tau_interval"]
        assert found is not None
        assert estimate is not None
        assert found[0] < estimate < found[1]
        widths.append(found[1] - found[0])
    assert widths[1] < widths[0] / 2


def test_blocks_of_time_widen_intervals_when_the_order_changes_with_time() -> None:
    rng = np.random.default_rng(6)
    quality = np.linspace(0, 1, 20)[:, None].repeat(2, axis=1)
    trend = rng.normal(0, 3.0, (20, 1, 4)).repeat(2, axis=1)
    trend -= trend.mean(axis=2, keepdims=True)
    steady = Arm(ranking=quality, regret=quality, blocks=quality[:, :, None].repeat(4, axis=2))
    moving = Arm(ranking=quality, regret=quality, blocks=quality[:, :, None] + trend)
    assert intervals(steady, steady, num_replicates=50)["kendall_tau_interval"] == (1.0, 1.0)
    found = intervals(moving, steady, num_replicates=50)["kendall_tau_interval"]
    assert found is not None
    assert found[0] < 0.8


def test_blocks_of_time_move_both_arms_together() -> None:
    quality = np.linspace(0, 1, 20)[:, None].repeat(2, axis=1)
    trend = np.random.default_rng(6).normal(0, 3.0, (20, 1, 4)).repeat(2, axis=1)
    moving = Arm(ranking=quality, regret=quality, blocks=quality[:, :, None] + trend)
    assert intervals(moving, moving, num_replicates=50)["kendall_tau_interval"] == (1.0, 1.0)


@pytest.mark.parametrize("noisy", ["full", "method"])
def test_seeds_of_either_arm_widen_intervals(noisy: str) -> None:
    # Candidate i is worth i over both seeds; either alone puts even and odd ones apart.
    quality = np.arange(6.0)[:, None]
    sign = np.where(np.arange(6) % 2, 1.0, -1.0)[:, None]
    noise = arm(quality + 9.0 * sign * values(-1, 1))
    steady = arm(quality.repeat(2, axis=1))
    full, method = (noise, steady) if noisy == "full" else (steady, noise)
    assert fidelity(full, method.ranking.mean(axis=1))["kendall_tau"] == 1.0
    found = intervals(full, method, num_replicates=50)
    for interval in (found["kendall_tau_interval"], found["spearman_rho_interval"]):
        assert interval is not None
        assert interval[0] < 0.8
        assert interval[1] == pytest.approx(1.0)


def test_each_interval_is_of_its_own_figure() -> None:
    # The upper half comes first: tau is -1/15, rho -43/85, and 56 of 120 pairs are right.
    reference = np.arange(16.0)
    score = np.roll(reference, 8)
    found = intervals(*(arm(v[:, None].repeat(2, axis=1)) for v in (reference, score)))
    draws = np.random.default_rng(7).integers(16, size=(500, 16))
    tau = np.array([stats.kendalltau(reference[d], score[d]).statistic for d in draws])
    rho = np.array([stats.spearmanr(reference[d], score[d]).statistic for d in draws])
    expected = {
        "kendall_tau_interval": np.quantile(tau, [0.05, 0.95]),
        "spearman_rho_interval": np.quantile(rho, [0.05, 0.95]),
        "resolved_pair_accuracy_interval": np.quantile((1 + tau) / 2, [0.05, 0.95]),
    }
    for name, bounds in expected.items():
        assert found[name] == pytest.approx(bounds, abs=0.05)  # type: ignore[literal-required]


def test_an_interval_needs_most_replicates() -> None:
    assert bootstrap_interval(lambda m, g: None, 5, num_replicates=10) is None
    assert bootstrap_interval(lambda m, g: 1.0, 0, num_replicates=10) is None
    assert bootstrap_interval(lambda m, g: 2.0, 3, num_replicates=10) == (2.0, 2.0)
