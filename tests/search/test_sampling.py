"""Rows by position: the right ones, whatever the shards, reading no more than needed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from diet_ray.data.batch import concatenate
from diet_ray.data.encoding import to_batch
from diet_ray.data.log import Shard
from diet_ray.search import sampling
from diet_ray.search.sampling import (
    even_positions,
    first_rows,
    random_positions,
    subsample,
    take_rows,
    uniform,
)
from tests.search.memory_log import FEATURES, MemoryLog, memory_log


def test_numbers_are_uniform_and_follow_the_seed() -> None:
    positions = np.arange(50_000)
    found = uniform(positions, seed=1)
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert stats.kstest(found[::7], "uniform").pvalue > 0.01
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(found, uniform(positions, seed=2))[0, 1]) < 0.02
    # splitmix64 of state 0: its first output is a published test value.
    assert uniform(np.array([0]), seed=0)[0] == (0xE220A8397B1DCDAF >> 11) * 2.0**-53


def test_random_positions_are_distinct_sorted_and_independent_of_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = random_positions(1000, 100, seed=4)
    assert len(np.unique(found)) == 100
    assert (np.diff(found) > 0).all()
    assert found.max() < 1000
    monkeypatch.setattr(sampling, "_CHUNK", 64)
    np.testing.assert_array_equal(random_positions(1000, 100, seed=4), found)
    np.testing.assert_array_equal(random_positions(5, 100, seed=4), np.arange(5))


@given(st.integers(0, 500), st.integers(1, 500))
def test_even_positions_are_evenly_spaced(num_rows: int, num_chosen: int) -> None:
    found = even_positions(num_rows, num_chosen)
    assert len(found) == min(num_rows, num_chosen)
    if len(found) > 1:
        gaps = np.diff(found)
        assert gaps.min() >= 1
        assert gaps.max() - gaps.min() <= 1
        assert found[0] == 0
        assert found[-1] < num_rows


def rows_of(log: MemoryLog, positions: np.ndarray) -> torch.Tensor:
    return to_batch(log.table.take(positions), FEATURES).categorical


def test_taken_rows_are_those_at_the_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    log = memory_log()
    read: list[int] = []
    original = MemoryLog.read_shard

    def spy(self: MemoryLog, shard: Shard, columns: list[str] | None = None):
        read.append(shard.index)
        return original(self, shard, columns)

    monkeypatch.setattr(MemoryLog, "read_shard", spy)
    positions = np.array([0, 699, 1200, 2099])
    found = take_rows(log, log.train_stages, positions)
    assert torch.equal(found.categorical, rows_of(log, positions))
    assert read == [0, 2]
    found = take_rows(log, log.test_stages, np.array([0, 399]))
    assert torch.equal(found.categorical, rows_of(log, np.array([2100, 2499])))


def test_subsamples_of_disjoint_intervals_part_the_stream() -> None:
    log = memory_log()
    parts = [
        concatenate(list(subsample(log, low=low, high=high, seed=3)))
        for low, high in ((0.0, 0.3), (0.3, 1.0))
    ]
    assert len(parts[0]) == pytest.approx(0.3 * 2100, rel=0.15)
    keys = uniform(np.arange(2100), seed=3)
    for part, chosen in zip(parts, (keys < 0.3, keys >= 0.3), strict=True):
        assert torch.equal(part.categorical, rows_of(log, np.flatnonzero(chosen)))


def test_the_whole_interval_is_the_whole_stream() -> None:
    log = memory_log()
    whole = concatenate(list(subsample(log, low=0.0, high=1.0, seed=3)))
    assert torch.equal(whole.categorical, rows_of(log, np.arange(2100)))


@pytest.mark.parametrize("num_rows", [1, 700, 1000, 1200, 2100])
def test_first_rows(num_rows: int) -> None:
    log = memory_log()
    found = concatenate(list(first_rows(log, num_rows)))
    assert torch.equal(found.categorical, rows_of(log, np.arange(num_rows)))
