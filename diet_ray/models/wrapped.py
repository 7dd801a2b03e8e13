"""Any module as a candidate: one that takes the encoded rows and gives logits.

    class Mine(nn.Module):
        def __init__(self, features: FeatureSpec, embedding_size: int): ...
        def forward(self, batch: Batch) -> Tensor: ...          # (B,) or (B, 1)

The constructor takes the features, and whichever of a candidate's hyper-parameters it names. The
module keeps embeddings of its own, which are trained as dense weights are: a `Recommender`, whose
table is updated by the rows that a mini-batch touches, is faster.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

from torch import Tensor, nn

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.layers import Output


@functools.cache
def wrapped(module_class: type[nn.Module]) -> type[Recommender]:
    """A `Recommender` class around a module's, which takes the same arguments."""

    class Wrapped(Recommender):
        reads_table = False

        def __init__(self, features: FeatureSpec, **arguments: Any) -> None:
            # The table of a model without any of its own.
            super().__init__(features, embedding_size=1)
            self.module = module_class(features, **arguments)
            self.output = Output(0)

        def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
            logit = self.module(batch)
            if logit.shape not in ((len(batch),), (len(batch), 1)):
                raise ValueError(
                    f"{module_class.__name__} gave {tuple(logit.shape)} for {len(batch)} rows; "
                    f"expected ({len(batch)},) or ({len(batch)}, 1)"
                )
            hidden = logit.new_zeros(len(batch), 0)
            return HeadOutput(logit.reshape(len(batch)) + self.output(hidden), hidden)

    Wrapped.__name__ = module_class.__name__
    Wrapped.__signature__ = inspect.signature(module_class)  # type: ignore[attr-defined]
    return Wrapped
