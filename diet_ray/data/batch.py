"""Encoded rows as tensors, and the shape of an encoded log that models are built for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diet_ray.data.schema import MAX_LENGTH

PADDING_ID = 0
"""Fills the end of a short sequence; its embedding counts as zero."""
UNKNOWN_ID = 1
"""A missing value, or one that isn't in the vocabulary."""
NUM_RESERVED_IDS = 2
MAX_IDS = 2**31 - 1
"""Of a vocabulary: ids are int32."""


@dataclass(frozen=True, kw_only=True)
class SequenceSpec:
    name: str
    max_length: int
    target: str | None
    """The categorical field whose ids (and embeddings) it shares; None if it has its own."""
    num_ids: int
    """Ids of its own vocabulary, reserved ones included; equal to the target's when shared."""


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """Names, order and sizes of an encoded log's fields: all that a model needs to be built.

    `num_ids[i]` counts the ids of `categorical[i]`, the reserved ones included, so that ids lie in
    [0, num_ids[i]).
    """

    categorical: tuple[str, ...]
    num_ids: tuple[int, ...]
    numeric: tuple[str, ...]
    sequence: tuple[SequenceSpec, ...]

    def __post_init__(self) -> None:
        names = [*self.categorical, *self.numeric, *(s.name for s in self.sequence)]
        if len(set(names)) < len(names):
            raise ValueError("every field must be named once")
        if len(self.num_ids) != len(self.categorical):
            raise ValueError("num_ids must have a number for each categorical field")
        sizes = [*self.num_ids, *(s.num_ids for s in self.sequence)]
        if not all(NUM_RESERVED_IDS <= n <= MAX_IDS for n in sizes):
            raise ValueError(f"num_ids must lie from {NUM_RESERVED_IDS} to {MAX_IDS}")
        ids = dict(zip(self.categorical, self.num_ids, strict=True))
        for s in self.sequence:
            if not 1 <= s.max_length <= MAX_LENGTH:
                raise ValueError(f"{s.name}: max_length must lie from 1 to {MAX_LENGTH}")
            if s.target is not None and ids.get(s.target) != s.num_ids:
                raise ValueError(f"{s.name}: must have as many ids as `{s.target}`")

    @property
    def max_sequence_length(self) -> int:
        return max((s.max_length for s in self.sequence), default=0)

    @property
    def num_fields(self) -> int:
        """Fields that a pooled model sees: categorical + numeric + sequence."""
        return len(self.categorical) + len(self.numeric) + len(self.sequence)


@dataclass(frozen=True)
class Batch:
    """B encoded rows; any of the field tensors may have zero columns.

    Shapes: categorical int32 (B, C); numeric float32 (B, N), standardised, missing = 0;
    sequence int32 (B, S, L), oldest first, padded at the end with `PADDING_ID`, L the longest
    `max_length`; label float32 (B,) in {0, 1}. Orders are those of `FeatureSpec`.
    """

    categorical: Tensor
    numeric: Tensor
    sequence: Tensor
    label: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """In the order that makes a batch of them."""
        return self.categorical, self.numeric, self.sequence, self.label

    def __len__(self) -> int:
        return self.label.shape[0]

    def __getitem__(self, rows: slice | Tensor) -> Batch:
        return Batch(
            self.categorical[rows], self.numeric[rows], self.sequence[rows], self.label[rows]
        )

    def to(self, device: torch.device | str) -> Batch:
        return Batch(
            self.categorical.to(device, non_blocking=True),
            self.numeric.to(device, non_blocking=True),
            self.sequence.to(device, non_blocking=True),
            self.label.to(device, non_blocking=True),
        )


def concatenate(batches: list[Batch]) -> Batch:
    """Rows of all batches, in order. At least one is needed."""
    return Batch(
        torch.cat([b.categorical for b in batches]),
        torch.cat([b.numeric for b in batches]),
        torch.cat([b.sequence for b in batches]),
        torch.cat([b.label for b in batches]),
    )
