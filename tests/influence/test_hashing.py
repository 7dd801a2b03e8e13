from __future__ import annotations

import numpy as np
import torch

from diet_ray.influence.hashing import mix, stream_key

GOLDEN = 0x9E3779B97F4A7C15


def as_signed(values: list[int]) -> np.ndarray:
    return np.array([v % 2**64 for v in values], dtype=np.uint64).view(np.int64)


def test_first_outputs_of_splitmix64_seeded_zero():
    # Published outputs of the reference implementation (Vigna, splitmix64.c) for seed 0.
    published = as_signed([0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F])
    states = as_signed([0, GOLDEN, 2 * GOLDEN])
    assert (mix(states) == published).all()
    assert (mix(torch.from_numpy(states)).numpy() == published).all()


def test_keys_differ_by_seed_and_stream():
    keys = {stream_key(seed, stream) for seed in (-1, 0, 1, 2**63) for stream in range(3)}
    assert len(keys) == 12
