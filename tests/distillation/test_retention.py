"""Uniform row samples that merge exactly."""

from __future__ import annotations

import numpy as np
import torch

from diet_ray.distillation.retention import RowSample, StageSampler, merge
from diet_ray.influence.reservoir import uniform
from tests.distillation.rows import random_rows


def sample(first_row: int, num_rows: int, size: int, cuts: list[int], seed: int = 3) -> RowSample:
    rows = random_rows(num_rows, first_row)
    sampler = StageSampler(first_row, num_rows, size, seed)
    for low, high in zip([0, *cuts], [*cuts, num_rows], strict=True):
        sampler(rows[low:high])
    return sampler.sample()


def test_takes_the_rows_of_smallest_hash_however_the_stage_is_cut() -> None:
    whole, parts = sample(100, 50, 7, []), sample(100, 50, 7, [1, 2, 30, 30])
    keys = uniform(3, np.arange(100, 150))
    assert whole.rows.tolist() == sorted((np.argsort(keys)[:7] + 100).tolist())
    assert torch.equal(whole.rows, parts.rows)
    assert torch.equal(whole.batch.categorical, parts.batch.categorical)
    expected = random_rows(50, 100)[whole.rows - 100]
    assert torch.equal(whole.batch.numeric, expected.numeric)


def test_merging_stages_equals_sampling_their_union() -> None:
    first, second = sample(0, 40, 9, []), sample(40, 60, 9, [])
    merged = merge(merge(None, first, 9, 3), second, 9, 3)
    keys = uniform(3, np.arange(100))
    assert merged.rows.tolist() == sorted(np.argsort(keys)[:9].tolist())
    assert len(merged.batch) == 9


def test_a_short_stage_is_taken_whole_and_survives_a_round_trip() -> None:
    taken = sample(5, 4, 10, [2])
    assert taken.rows.tolist() == [5, 6, 7, 8]
    again = RowSample.from_state(taken.state())
    assert torch.equal(again.rows, taken.rows)
    assert torch.equal(again.batch.sequence, taken.batch.sequence)
