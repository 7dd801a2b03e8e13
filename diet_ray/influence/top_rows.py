"""For each of M slots, the rows of a stream that help it most and those that harm it most.

The influence of row n on slot m is ⟨g_n, s_m⟩. The matrix G Sᵀ is reduced as rows stream by and
never held: a slot keeps the k rows of largest and the k of smallest influence, equal ones in order
of row number. The smallest for s are the largest for −s, so there are 2M lists of one kind, M of S
then M of −S, and a row matters to a list only if it reaches its last value, the threshold.

What is kept depends on the rows alone, not on how they are cut, ordered or merged. The bits of a
matrix product do depend on its shape, so products only tell which pairs may matter: with unit
roundoff u, an inner product of D terms is off by at most γ‖g‖‖s‖, γ = Du / (1 − Du) (Higham,
"Accuracy and Stability of Numerical Algorithms", section 3.1), and a pair within several times that
of a threshold is taken too. The few pairs taken are evaluated in float64, in a fixed order.

Rows that are too short, or point too far from every slot, need no full product: see `Screen`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from diet_ray.influence.low_rank import Moments, Screen

_PIECE_ROWS = 16_384
_NO_ROW = torch.iinfo(torch.int64).max
_INPUT_ROUNDING = {"highest": 0.0, "high": 2.0**-10, "medium": 2.0**-8}
"""Of float32 products' inputs, by `torch.get_float32_matmul_precision`: none, TF32, bfloat16."""


class RankedRows(NamedTuple):
    """W = min(k, number of rows) rows for each of M slots, the most extreme first."""

    row: Tensor
    """(M, W) int64"""
    value: Tensor
    """(M, W) float64: influences."""


@dataclass(frozen=True, kw_only=True)
class TopRows:
    k: int
    helpful: RankedRows
    """Largest influence first."""
    harmful: RankedRows
    """Smallest influence first."""
    moments: Moments
    """Of all rows, whatever their influence."""


class TopRowsReducer:
    """Reduces a stream of rows' gradients to `TopRows`, on the device of the slots."""

    def __init__(self, slots: Tensor, k: int, *, tile_size: int = 2**18) -> None:
        """`slots` (M, D) are float32 or float64. About `tile_size` numbers are worked on at once:
        as many as a core's cache holds, or many more on a GPU."""
        if k < 1 or len(slots) < 1:
            raise ValueError("k and the number of slots must be at least 1")
        self._k = k
        self._slots = slots.detach()
        self._exact_slots = self._slots.double()
        self._norm = self._exact_slots.norm(dim=1)
        if not self._norm.isfinite().all():
            raise ValueError("gradients must be finite")
        self._block_rows = max(64, tile_size // len(slots))
        self._pairs_at_once = max(64, tile_size // slots.shape[1])
        self._product = slots.new_empty(len(slots), self._block_rows)
        self._most_waiting = 2 * k * len(slots)
        self._error = _relative_error(slots)
        self._tiny = slots.shape[1] * torch.finfo(slots.dtype).tiny
        self._screen = Screen(slots.detach(), self._error, tile_size)
        self._row = torch.full((2 * len(slots), k), _NO_ROW, device=slots.device)
        self._value = self._norm.new_full((2 * len(slots), k), -torch.inf)
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []
        self._num_waiting = 0
        self._moments = Moments.of(slots[:0])
        self._set_thresholds()

    @torch.no_grad()
    def update(self, gradients: Tensor, row: Tensor) -> None:
        """Adds rows' gradients (B, D), of the slots' dtype, with their numbers (B,), int64.

        No number may come twice. Raises `ValueError` if a gradient is not finite.
        """
        for i in range(0, len(row), _PIECE_ROWS):
            self._update(gradients[i : i + _PIECE_ROWS], row[i : i + _PIECE_ROWS])

    @torch.no_grad()
    def result(self) -> TopRows:
        """What the rows so far come to."""
        self._absorb()
        width = min(self._k, self._moments.num_rows)
        helpful_row, harmful_row = self._row[:, :width].clone().chunk(2)
        helpful_value, harmful_value = self._value[:, :width].clone().chunk(2)
        return TopRows(
            k=self._k,
            helpful=RankedRows(helpful_row, helpful_value),
            harmful=RankedRows(harmful_row, -harmful_value),
            moments=self._moments,
        )

    def _update(self, gradients: Tensor, row: Tensor) -> None:
        exact = gradients.double()
        norm = exact.norm(dim=1)
        if not norm.isfinite().all():
            raise ValueError("gradients must be finite")
        self._moments = self._moments + Moments.of(exact)
        # Long rows first: they raise the thresholds that exclude the others.
        order = self._screen.passes(exact, norm, norm.argsort(descending=True))
        pairs: list[tuple[Tensor, Tensor]] = []
        num_pairs = 0
        for i in range(0, len(order), self._block_rows):
            place = order[i : i + self._block_rows]
            slot, column = self._near(gradients.index_select(0, place), norm[place[0]])
            pairs.append((slot, place[column]))
            num_pairs += len(slot)
            if num_pairs + self._num_waiting > self._most_waiting:
                self._evaluate(pairs, exact, row)
                self._absorb()
                pairs, num_pairs = [], 0
        self._evaluate(pairs, exact, row)

    def _near(self, gradients: Tensor, largest_norm: Tensor) -> tuple[Tensor, Tensor]:
        """Slots and places in `gradients` of the pairs that may reach a threshold."""
        product = self._product[:, : len(gradients)]
        torch.mm(self._slots, gradients.T, out=product)
        upper, lower = self._threshold.view(2, -1)
        margin = self._error * self._norm * largest_norm + self._tiny
        upper, lower = (upper - margin).to(product.dtype), (margin - lower).to(product.dtype)
        touched = ((product.amax(1) >= upper) | (product.amin(1) <= lower)).nonzero()[:, 0]
        product = product[touched]
        near = (product >= upper[touched, None]) | (product <= lower[touched, None])
        slot, column = near.nonzero(as_tuple=True)
        return touched[slot], column

    def _evaluate(self, pairs: list[tuple[Tensor, Tensor]], exact: Tensor, row: Tensor) -> None:
        """Queues those pairs of a slot and a place in `exact` (B, D) that enter a list."""
        if not pairs:
            return
        slots, places = (torch.cat(p).split(self._pairs_at_once) for p in zip(*pairs, strict=True))
        for slot, place in zip(slots, places, strict=True):
            value = _inner_product(
                exact.index_select(0, place), self._exact_slots.index_select(0, slot)
            )
            for side, signed in ((slot, value), (slot + len(self._slots), -value)):
                last_value, last_row = self._threshold[side], self._row[side, -1]
                new = (signed > last_value) | (signed == last_value) & (row[place] < last_row)
                if new.any():
                    self._waiting.append((side[new], row[place[new]], signed[new]))
                    self._num_waiting += len(self._waiting[-1][0])

    def _absorb(self) -> None:
        """Merges what waits into the lists, k entries of a list at a time."""
        if not self._waiting:
            return
        side, row, value = (torch.cat(p) for p in zip(*self._waiting, strict=True))
        self._waiting, self._num_waiting = [], 0
        side, order = side.sort(stable=True)
        row, value = row[order], value[order]
        count = side.bincount(minlength=len(self._row))
        place = torch.arange(len(side), device=side.device) - (count.cumsum(0) - count)[side]
        while len(side) > 0:
            now = place < self._k
            self._insert(side[now], place[now], row[now], value[now])
            side, place, row, value = (x[~now] for x in (side, place - self._k, row, value))
        self._set_thresholds()

    def _insert(self, side: Tensor, place: Tensor, row: Tensor, value: Tensor) -> None:
        """Merges entries (n,) in order of `side`, each with a `place` below k of its own there."""
        lists, at = side.unique_consecutive(return_inverse=True)
        beyond = (0, int(place.max()) + 1)
        rows = pad(self._row[lists], beyond, value=_NO_ROW)
        values = pad(self._value[lists], beyond, value=-torch.inf)
        rows[at, self._k + place], values[at, self._k + place] = row, value
        self._row[lists], self._value[lists] = _best(rows, values, self._k)

    def _set_thresholds(self) -> None:
        self._threshold = self._value[:, -1].contiguous()
        self._screen.set_thresholds(self._threshold - self._tiny)


def merge(parts: Sequence[TopRows]) -> TopRows:
    """What the parts' rows come to in one stream; the lists to the bit, the moments but for the
    rounding of float64. At least one is needed, all of the same slots and k."""
    k, moments = parts[0].k, parts[0].moments
    for part in parts[1:]:
        moments = moments + part.moments
    helpful = _concatenate([p.helpful for p in parts])
    harmful = _concatenate([p.harmful for p in parts])
    helpful_row, helpful_value = _best(helpful.row, helpful.value, k)
    harmful_row, harmful_value = _best(harmful.row, -harmful.value, k)
    return TopRows(
        k=k,
        helpful=RankedRows(helpful_row, helpful_value),
        harmful=RankedRows(harmful_row, -harmful_value),
        moments=moments,
    )


def _concatenate(lists: Sequence[RankedRows]) -> RankedRows:
    return RankedRows(*(torch.cat(parts, dim=1) for parts in zip(*lists, strict=True)))


def _relative_error(slots: Tensor) -> float:
    """Several times the bound on the error of products with slots (M, D), as a share of ‖g‖‖s‖."""
    error = 8 * (slots.shape[1] + 4) * torch.finfo(slots.dtype).eps
    if slots.dtype == torch.float32:
        error += 4 * _INPUT_ROUNDING[torch.get_float32_matmul_precision()]
    return error


def _inner_product(x: Tensor, y: Tensor) -> Tensor:
    """(n,): ⟨x_i, y_i⟩ of vectors (n, D) in float64, by one order of additions whatever n and the
    device: halves are added up until one number is left."""
    terms = x * y
    width = terms.shape[1]
    while width > 1:
        half = width // 2
        terms[:, :half] += terms[:, width - half : width]
        width -= half
    return terms[:, 0]


def _best(row: Tensor, value: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k entries of largest value of every list (L, W), equal ones in order of row number."""
    row, order = row.sort(dim=1)
    value, order = value.gather(1, order).sort(dim=1, descending=True, stable=True)
    return row.gather(1, order[:, :k]), value[:, :k]
