"""The ids that occur in some rows: a distilled dataset ships the values of these alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diet_ray.data.batch import NUM_RESERVED_IDS, Batch, FeatureSpec


@dataclass(frozen=True, eq=False)
class KnownIds:
    """Which ids of each vocabulary occur, the reserved ones always among them."""

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
        return cls(occurs)

    def ids(self, name: str) -> np.ndarray:
        """The ids of a field's vocabulary that occur, ascending, without the reserved ones."""
        return torch.nonzero(self.occurs[name]).flatten().numpy()[NUM_RESERVED_IDS:]


def _reserved(num_ids: int) -> Tensor:
    return torch.arange(num_ids) < NUM_RESERVED_IDS
