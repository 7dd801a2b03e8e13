"""Factors in low precision: what a pass leaves in float16 or bfloat16 adds up in float32."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from diet_ray.influence.factors import Entries, Factor, Outer

NUM_ROWS, NUM_OUTPUTS, NUM_INPUTS = 5, 4, 3


def small(*shape: int, dtype: torch.dtype, scale: float = 2e-4) -> torch.Tensor:
    """Numbers that float16 holds, but not their squares."""
    g = torch.Generator().manual_seed(len(shape))
    return (scale * (1 + torch.rand(shape, generator=g))).to(dtype)


def factor(kind: str, dtype: torch.dtype) -> Factor:
    """Inputs are float32 where a layer was given what no layer made, as in the first one."""
    if kind == "entries":
        return Entries(small(NUM_ROWS, NUM_OUTPUTS, NUM_INPUTS, dtype=dtype))
    num_places = int(kind.removeprefix("outer "))
    return Outer(
        small(NUM_ROWS, num_places, NUM_OUTPUTS, dtype=dtype),
        small(NUM_ROWS, num_places, NUM_INPUTS, dtype=torch.float32, scale=1.0),
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["outer 1", "outer 2", "outer 9", "entries"])
def test_small_numbers_neither_vanish_nor_lose_digits(kind: str, dtype: torch.dtype):
    low = factor(kind, dtype)
    gradient = low.multiplied_out().double()
    weight = torch.linspace(0.5, 2, NUM_OUTPUTS * NUM_INPUTS).view(NUM_OUTPUTS, NUM_INPUTS)
    weighted = low.weighted_squared_norm(weight)
    along = low.along(weight)
    assert weighted.dtype == along.dtype == torch.float32
    expected = (gradient.square() * weight).sum((1, 2))
    assert_close(weighted.double(), expected, rtol=1e-5, atol=0)
    assert_close(along.double(), (gradient * weight).sum((1, 2)), rtol=1e-5, atol=0)
    squares = low.squared_norm().double()
    assert_close(squares, gradient.square().sum((1, 2)), rtol=2 * torch.finfo(dtype).eps, atol=0)
