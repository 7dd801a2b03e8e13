"""Field-matrixed factorisation machine: one matrix for each pair of fields.

Sun, Pan, Zhang, Flores: FM²: Field-matrixed Factorization Machines for Recommender Systems,
WWW 2021, arXiv 2102.12994.

    z = b + Σ_i w[id_i] + Σ_n u_n x_n + Σ_{i<j} ⟨M_ij e_i, e_j⟩
"""

from __future__ import annotations

from torch import Tensor

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.interactions import BilinearPairs
from diet_ray.models.layers import NumericFields, Output, pool, split_first_order


class FmFM(Recommender):
    linear = True

    def __init__(self, features: FeatureSpec, embedding_size: int) -> None:
        super().__init__(features, embedding_size)
        self.numeric = NumericFields(features, embedding_size)
        self.pairs = BilinearPairs(features.num_fields, embedding_size)
        self.output = Output(len(features.numeric))

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        embeddings, first_order = split_first_order(pool(gathered, batch))
        pairs = self.pairs(self.numeric(embeddings, batch)).sum(dim=(1, 2))
        hidden = batch.numeric.to(gathered.dtype)
        return HeadOutput(first_order + pairs + self.output(hidden), hidden)
