"""Per-row gradients of a parameter as factors: what a backward pass leaves, never multiplied out.

B rows' gradients of the logit at one parameter take one of three forms:

- `Outer`: Σ_t b_t ⊗ a_t, of a matrix that maps a_t to b_t at T places of a row: a linear layer,
  applied once (T = 1), to each field or item, or several times;
- `Gathered`: row k gets Σ e_p over the places p that gathered it: an embedding;
- `Entries`: the gradient itself, of a parameter no larger than an activation: a bias, a gain.

All of them give squared norms, inner products of rows with rows and with a fixed direction, and
random projections. The first follow from ⟨b⊗a, b'⊗a'⟩ = (a·a')(b·b') (the "ghost" product of
Goodfellow, "Efficient per-example gradient computations", arXiv 1510.01799, and of Li et al.,
arXiv 2110.05679, for T > 1), which costs T²(in + out) instead of in·out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from diet_ray.recording import recording

_MAX_BLOCK_NUMBERS = 1 << 24
"""Numbers of one intermediate result; bounds memory where a gradient is multiplied out."""


class Factor(Protocol):
    """Gradients ∂z_i/∂W, i = 1 … B, of one parameter W."""

    def squared_norm(self) -> Tensor:
        """(B,): ‖∂z/∂W‖²."""

    def weighted_squared_norm(self, weight: Tensor) -> Tensor:
        """(B,): Σ weight ∘ (∂z/∂W)², for a weight of W's shape, at least 0."""

    def along(self, direction: Tensor) -> Tensor:
        """(B,): ⟨∂z/∂W, direction⟩, for a direction of W's shape."""

    def products(self, other: Factor) -> Tensor:
        """(N, M): ⟨∂z_i/∂W, ∂z'_j/∂W⟩ of N rows here and M rows of a factor of the same W."""

    def multiplied_out(self) -> Tensor:
        """(B, *W.shape); as large as it looks."""

    def __add__(self, other: Factor) -> Factor:
        """Another use of the same parameter by the same rows."""


@dataclass(frozen=True)
class Outer:
    output: Tensor
    """(B, T, out): b, the gradient at what the matrix gave."""
    input: Tensor
    """(B, T, in): a"""

    def __add__(self, other: Factor) -> Outer:
        assert isinstance(other, Outer)
        return Outer(
            torch.cat([self.output, other.output], dim=1),
            torch.cat([self.input, other.input], dim=1),
        )

    @property
    def num_places(self) -> int:
        return self.input.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)"""
        return self.output.shape[2], self.input.shape[2]

    def squared_norm(self) -> Tensor:
        if self.num_places == 1:
            return square_sum(self.output) * square_sum(self.input)
        if self.num_places * sum(self.shape) > self.shape[0] * self.shape[1]:
            return square_sum(self.multiplied_out())
        inputs = self.input @ self.input.transpose(1, 2)
        outputs = self.output @ self.output.transpose(1, 2)
        return (inputs * outputs).sum((1, 2))

    def weighted_squared_norm(self, weight: Tensor) -> Tensor:
        if self.num_places == 1:
            # Squares of small numbers would vanish in float16.
            scaled = self.output[:, 0].to(weight).square() @ weight
            return (scaled * self.input[:, 0].to(weight).square()).sum(1)
        return torch.cat(
            [(part.to(weight).square() * weight).sum((1, 2)) for part in self._parts()]
        )

    def along(self, direction: Tensor) -> Tensor:
        return ((self.input.to(direction) @ direction.T) * self.output).sum((1, 2))

    def products(self, other: Factor) -> Tensor:
        assert isinstance(other, Outer)
        if self.num_places == other.num_places == 1:
            return (self.input[:, 0] @ other.input[:, 0].T) * (
                self.output[:, 0] @ other.output[:, 0].T
            )
        places = self.num_places * other.num_places
        if places * sum(self.shape) > self.shape[0] * self.shape[1]:
            return self.multiplied_out().flatten(1) @ other.multiplied_out().flatten(1).T
        total = self.input.new_zeros(len(self.input), len(other.input))
        for t in range(self.num_places):
            for u in range(other.num_places):
                inputs = self.input[:, t] @ other.input[:, u].T
                total += inputs * (self.output[:, t] @ other.output[:, u].T)
        return total

    def multiplied_out(self) -> Tensor:
        return _multiplied(self.output, self.input)

    def _parts(self) -> list[Tensor]:
        """`multiplied_out` a few rows at a time."""
        num_rows = max(1, _MAX_BLOCK_NUMBERS // max(1, self.shape[0] * self.shape[1]))
        pairs = zip(self.output.split(num_rows), self.input.split(num_rows), strict=True)
        return [_multiplied(b, a) for b, a in pairs]


@dataclass(frozen=True)
class Entries:
    gradient: Tensor
    """(B, *W.shape)"""

    def __add__(self, other: Factor) -> Entries:
        assert isinstance(other, Entries)
        return Entries(self.gradient + other.gradient)

    def squared_norm(self) -> Tensor:
        return square_sum(self.gradient)

    def weighted_squared_norm(self, weight: Tensor) -> Tensor:
        return self.gradient.flatten(1).to(weight).square() @ weight.flatten()

    def along(self, direction: Tensor) -> Tensor:
        return self.gradient.flatten(1).to(direction) @ direction.flatten()

    def products(self, other: Factor) -> Tensor:
        assert isinstance(other, Entries)
        return self.gradient.flatten(1) @ other.gradient.flatten(1).T

    def multiplied_out(self) -> Tensor:
        return self.gradient


@dataclass(frozen=True)
class Gathered:
    rows: Tensor
    """(B, P), int64: rows of W that the places gathered; below zero: a constant, such as padding,
    that gets no gradient."""
    gradient: Tensor
    """(B, P, width): e, zero at constants."""
    num_rows: int
    """Of W."""
    meeting: tuple[int, ...]
    """Places that may gather the row of another place."""

    def __add__(self, other: Factor) -> Gathered:
        assert isinstance(other, Gathered)
        rows = torch.cat([self.rows, other.rows], dim=1)
        return Gathered(
            rows,
            torch.cat([self.gradient, other.gradient], dim=1),
            self.num_rows,
            tuple(range(rows.shape[1])),
        )

    def squared_norm(self) -> Tensor:
        return _squared_norm_by_row(self.rows, self.gradient, self.meeting)

    def weighted_squared_norm(self, weight: Tensor) -> Tensor:
        # All places of a row of W have one weight, so its root moves into the sum.
        scaled = self.gradient * weight.sqrt()[self.rows.clamp_min(0)]
        return _squared_norm_by_row(self.rows, scaled, self.meeting)

    def along(self, direction: Tensor) -> Tensor:
        return (self.gradient * direction[self.rows.clamp_min(0)]).sum((1, 2))

    def products(self, other: Factor) -> Tensor:
        assert isinstance(other, Gathered)
        meeting = set(self.meeting) | set(other.meeting)
        total = self.gradient.new_zeros(len(self.gradient), len(other.gradient))
        for p in range(self.rows.shape[1]):
            for q in range(other.rows.shape[1]):
                if p == q or (p in meeting and q in meeting):
                    same = self.rows[:, p, None] == other.rows[None, :, q]
                    total += same * (self.gradient[:, p] @ other.gradient[:, q].T)
        return total

    def multiplied_out(self) -> Tensor:
        num_rows, width = len(self.rows), self.gradient.shape[2]
        full = self.gradient.new_zeros(num_rows, self.num_rows, width)
        index = self.rows.clamp_min(0).unsqueeze(2).expand_as(self.gradient)
        return full.scatter_add_(1, index, self.gradient)


def _multiplied(output: Tensor, input: Tensor) -> Tensor:
    """(B, out, in): Σ_t b_t ⊗ a_t, whose precisions differ where a layer was given float32."""
    dtype = torch.promote_types(output.dtype, input.dtype)
    return output.transpose(1, 2).to(dtype) @ input.to(dtype)


def square_sum(x: Tensor) -> Tensor:
    """(B,): sum of squares of each x[i], in at least float32."""
    flat = x.flatten(1)
    dtype = torch.promote_types(flat.dtype, torch.float32)
    return torch.linalg.vector_norm(flat, dim=1, dtype=dtype).square()


def _squared_norm_by_row(rows: Tensor, gradient: Tensor, meeting: tuple[int, ...]) -> Tensor:
    """(B,): Σ over distinct rows of ‖Σ gradient over the places that gathered it‖².

    rows (B, P), gradient (B, P, width), zero where rows are below zero.
    """
    total = square_sum(gradient)
    if not meeting:
        return total
    if recording():
        # Which rows repeat an id is not to be asked, so all are taken for such.
        return square_sum(_added_up(rows, gradient))
    ids = _sorted(rows[:, list(meeting)])
    repeats = (ids[:, 1:] == ids[:, :-1]) & (ids[:, 1:] >= 0)
    found = repeats.any(1).nonzero()[:, 0]
    if len(found):
        total[found] = square_sum(_added_up(rows[found], gradient[found]))
    return total


def _added_up(rows: Tensor, gradient: Tensor) -> Tensor:
    """(B, P, width): sums over the places that gathered the same row, in as many first places."""
    ids, order = rows.sort(dim=1, stable=True)
    group = torch.nn.functional.pad((ids[:, 1:] != ids[:, :-1]).cumsum(1), (1, 0))
    return torch.zeros_like(gradient).scatter_add_(
        1,
        group.unsqueeze(2).expand_as(gradient),
        gradient.gather(1, order.unsqueeze(2).expand_as(gradient)),
    )


def _sorted(x: Tensor) -> Tensor:
    """x (B, P) with every row in ascending order."""
    if x.is_cuda:
        return x.sort(dim=1).values
    # Several times as fast as torch for many short rows.
    return torch.from_numpy(np.sort(x.numpy(), axis=1))
