"""Real rows kept from earlier stages, so that refinement can tell what it would forget.

A uniform sample of all rows seen: the rows with the smallest hash of (seed, row number). It doesn't
depend on how the stream was cut, and merging two samples is taking the smallest hashes of both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diet_ray.data.batch import Batch, concatenate
from diet_ray.influence.reservoir import uniform


@dataclass(frozen=True)
class RowSample:
    """Rows of a uniform sample, ordered by row number; row numbers int64 (n,)."""

    rows: Tensor
    batch: Batch

    def __len__(self) -> int:
        return self.rows.shape[0]

    def state(self) -> dict[str, Tensor]:
        return {
            "rows": self.rows,
            "categorical": self.batch.categorical,
            "numeric": self.batch.numeric,
            "sequence": self.batch.sequence,
            "label": self.batch.label,
        }

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> RowSample:
        """Raises ValueError if it is no state of a sample."""
        if {len(t) for t in state.values()} != {len(state["rows"])}:
            raise ValueError("a sample's tensors must be equally long")
        batch = Batch(state["categorical"], state["numeric"], state["sequence"], state["label"])
        return cls(state["rows"], batch)


class StageSampler:
    """Picks a stage's `size` rows of smallest hash while its rows stream by in order."""

    def __init__(self, first_row: int, num_rows: int, size: int, seed: int) -> None:
        rows = np.arange(first_row, first_row + num_rows, dtype=np.int64)
        keys = uniform(seed, rows)
        chosen = rows if num_rows <= size else rows[np.argpartition(keys, size)[:size]]
        self._chosen = np.sort(chosen)
        self._next_row = first_row
        self._parts: list[Batch] = []

    def __call__(self, batch: Batch) -> None:
        low, high = np.searchsorted(self._chosen, [self._next_row, self._next_row + len(batch)])
        if high > low:
            inside = torch.from_numpy(self._chosen[low:high] - self._next_row)
            self._parts.append(batch[inside])
        self._next_row += len(batch)

    def sample(self) -> RowSample:
        return RowSample(torch.from_numpy(self._chosen), concatenate(self._parts))


def merge(earlier: RowSample | None, new: RowSample, size: int, seed: int) -> RowSample:
    """The `size` rows of smallest hash of both samples."""
    if earlier is None:
        rows, batch = new.rows, new.batch
    else:
        rows = torch.cat([earlier.rows, new.rows])
        batch = concatenate([earlier.batch, new.batch])
    if len(rows) > size:
        keys = uniform(seed, rows.numpy())
        kept = torch.from_numpy(np.sort(np.argpartition(keys, size)[:size]))
        rows, batch = rows[kept], batch[kept]
    return RowSample(rows, batch)
