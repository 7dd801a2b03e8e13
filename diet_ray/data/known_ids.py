"""The ids that occur in some rows, and other rows seen through them.

A distilled dataset ships the values whose ids occur in it. Whoever encodes rows by it gets
`UNKNOWN_ID` for any other value; rows that a log has encoded get the same by `KnownIds.map`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diet_ray.data.batch import NUM_RESERVED_IDS, UNKNOWN_ID, Batch, FeatureSpec


@dataclass(frozen=True, eq=False)
class KnownIds:
    """Which ids of each vocabulary occur, the reserved ones always among them."""

    features: FeatureSpec
    occurs: dict[str, Tensor]
    """bool (num_ids,) of every categorical and sequence field; a sequence that shares its target's
    vocabulary shares the tensor."""

    @classmethod
    def of(cls, batch: Batch, features: FeatureSpec) -> KnownIds:
        """Those of all rows of a batch. Raises `IndexError` if an id isn't below its `num_ids`."""
        occurs: dict[str, Tensor] = {}
        for i, (name, num_ids) in enumerate(
            zip(features.categorical, features.num_ids, strict=True)
        ):
            occurs[name] = _reserved(num_ids)
            occurs[name][batch.categorical[:, i].long().cpu()] = True
        for i, spec in enumerate(features.sequence):
            occurs[spec.name] = (
                _reserved(spec.num_ids) if spec.target is None else occurs[spec.target]
            )
            occurs[spec.name][batch.sequence[:, i].long().cpu()] = True
        return cls(features, occurs)

    def ids(self, name: str) -> np.ndarray:
        """The ids of a field's vocabulary that occur, ascending, without the reserved ones."""
        return torch.nonzero(self.occurs[name]).flatten().numpy()[NUM_RESERVED_IDS:]

    def map(self, batch: Batch) -> Batch:
        """The batch with `UNKNOWN_ID` for every id that doesn't occur, beyond `num_ids` too.

        Its fields are those of `features`. Padding, numeric fields and labels stay.
        """
        categorical, sequence = batch.categorical.clone(), batch.sequence.clone()
        for i, name in enumerate(self.features.categorical):
            categorical[:, i] = _map(categorical[:, i], self.occurs[name])
        for i, spec in enumerate(self.features.sequence):
            sequence[:, i] = _map(sequence[:, i], self.occurs[spec.name])
        return Batch(categorical, batch.numeric, sequence, batch.label)


def _reserved(num_ids: int) -> Tensor:
    return torch.arange(num_ids) < NUM_RESERVED_IDS


def _map(ids: Tensor, occurs: Tensor) -> Tensor:
    occurs = occurs.to(ids.device)
    inside = ids < len(occurs)
    known = inside & occurs[torch.where(inside, ids, UNKNOWN_ID).long()]
    return torch.where(known, ids, UNKNOWN_ID)
