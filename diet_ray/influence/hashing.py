"""A stable 64-bit hash: the same on every machine, in every process and for every thread count."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from torch import Tensor

Integers = TypeVar("Integers", np.ndarray, Tensor)

_GOLDEN = -0x61C8864680B583EB
_MASK = (1 << 64) - 1


def mix(x: Integers) -> Integers:
    """splitmix64's output for state `x` (Steele, Lea and Flood, OOPSLA 2014), elementwise.

    int64 arrays or tensors, read as the bits of unsigned numbers.
    """
    x = x + _GOLDEN
    x = (x ^ _shift(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shift(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ _shift(x, 31)


def stream_key(seed: int, stream: int) -> int:
    """A signed 64-bit key; different seeds and streams give unrelated `mix(key ^ mix(x))`."""
    key = np.array([seed & _MASK], dtype=np.uint64).view(np.int64)
    offset = np.array([stream & _MASK], dtype=np.uint64).view(np.int64)
    return int(mix(mix(key) ^ offset)[0])


def _shift(x: Integers, bits: int) -> Integers:
    # The signed shift drags the sign bit along; the mask makes it the unsigned one.
    return (x >> bits) & ((1 << (64 - bits)) - 1)
