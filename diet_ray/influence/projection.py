"""Per-row gradients in few dimensions, without forming them.

Feature k of a row is Σ over parameters of ⟨g, P_k⟩ / √K with P_k of signs ±1 drawn independently:
of a matrix, P_k = c_k ⊗ a_k, so that Σ_t (b_t · c_k)(a_t · a_k) is taken from the factors. Hence
E⟨φ_i, φ_j⟩ = ⟨g_i, g_j⟩, over all parameters at once. Projecting factors in place of gradients is
the idea of LoGra (Choe et al., "What is your data worth to GPT?", arXiv 2405.13954); projections of
rank one with a pair of vectors a feature are those of Rakhshan and Rabusseau, "Tensorized random
projections", arXiv 2003.05101. Signs come from a hash, so that no matrix as long as a table exists.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

import torch
from torch import Tensor

from diet_ray.influence.factors import Entries, Factor, Gathered, Outer
from diet_ray.influence.gradients import RowGradients
from diet_ray.influence.hashing import mix, stream_key

_MAX_KEPT = 1024
"""Matrices of signs, each as large as a layer's inputs by K: two a parameter."""


def project(gradients: RowGradients, num_features: int, seed: int) -> Tensor:
    """(B, K): φ, of the loss's gradients over all parameters. The signs depend on the seed, the
    parameter's name and shape alone."""
    assert gradients.factors, "the gradients reach all parameters"
    total = torch.stack(
        [
            _project(factor, num_features, stream_key(seed, zlib.crc32(name.encode())))
            for name, factor in sorted(gradients.factors.items())
        ]
    ).sum(0)
    return gradients.residual[:, None] * total * num_features**-0.5


def _project(factor: Factor, num_features: int, key: int) -> Tensor:
    if isinstance(factor, Outer):
        num_outputs, num_inputs = factor.shape
        inputs = factor.input @ _signs_like(factor.input, num_inputs, num_features, key)
        outputs = factor.output @ _signs_like(factor.output, num_outputs, num_features, ~key)
        return (inputs * outputs).sum(1)
    if isinstance(factor, Entries):
        entries = factor.gradient.flatten(1)
        return entries @ _signs_like(entries, entries.shape[1], num_features, key)
    assert isinstance(factor, Gathered)
    width = factor.gradient.shape[2]
    total = factor.gradient.new_zeros(len(factor.rows), num_features)
    columns = _signs_like(factor.gradient, width, num_features, ~key)
    for p in range(factor.rows.shape[1]):
        signs = _hashed_signs(factor.rows[:, p], num_features, key, factor.gradient.dtype)
        total += signs * (factor.gradient[:, p] @ columns)
    return total


def _signs_like(x: Tensor, num_rows: int, num_features: int, key: int) -> Tensor:
    return _signs(num_rows, num_features, key, x.device, x.dtype)


@lru_cache(_MAX_KEPT)
def _signs(
    num_rows: int, num_features: int, key: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """(num_rows, K) of ±1."""
    return _hashed_signs(torch.arange(num_rows, device=device), num_features, key, dtype)


def _hashed_signs(index: Tensor, num_features: int, key: int, dtype: torch.dtype) -> Tensor:
    """(N, K) of ±1: 64 features are the bits of one hash of (key, index, feature // 64)."""
    words = torch.arange(-(-num_features // 64), device=index.device)
    bits = mix(mix(index.unsqueeze(1) ^ key) + words)
    places = torch.arange(64, device=index.device)
    spread = (bits.unsqueeze(2) >> places) & 1
    return (2 * spread.flatten(1)[:, :num_features] - 1).to(dtype)
