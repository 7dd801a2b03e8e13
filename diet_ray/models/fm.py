"""Factorisation machine.

Rendle: Factorization Machines, ICDM 2010.

    z = b + Σ_i w[id_i] + Σ_n u_n x_n + Σ_{i<j} ⟨e_i, e_j⟩

where a numeric field's embedding is value · vector, and a sequence counts as its mean item.
"""

from __future__ import annotations

from torch import Tensor

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.interactions import bi_interaction
from diet_ray.models.layers import NumericFields, Output, pool, split_first_order


class FM(Recommender):
    linear = True

    def __init__(self, features: FeatureSpec, embedding_size: int) -> None:
        super().__init__(features, embedding_size)
        self.numeric = NumericFields(features, embedding_size)
        self.output = Output(len(features.numeric))

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        embeddings, first_order = split_first_order(pool(gathered, batch))
        pairs = bi_interaction(self.numeric(embeddings, batch)).sum(dim=1)
        hidden = batch.numeric.to(gathered.dtype)
        return HeadOutput(first_order + pairs + self.output(hidden), hidden)
