"""A factorisation machine and a multi-layer perceptron over the same embeddings.

Guo, Tang, Ye, Li, He: DeepFM: A Factorization-Machine based Neural Network for CTR Prediction,
IJCAI 2017, arXiv 1703.04247.

    z = b + Σ_i w[id_i] + Σ_n u_n x_n + Σ_{i<j} ⟨e_i, e_j⟩ + v · MLP([e_1, …, e_F])
"""

from __future__ import annotations

import torch
from torch import Tensor

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.interactions import bi_interaction
from diet_ray.models.layers import NumericFields, Output, mlp, pool, split_first_order


class DeepFM(Recommender):
    linear = True

    def __init__(
        self,
        features: FeatureSpec,
        embedding_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
    ) -> None:
        super().__init__(features, embedding_size)
        self.numeric = NumericFields(features, embedding_size)
        self.mlp = mlp(features.num_fields * embedding_size, hidden_sizes, dropout)
        self.output = Output(hidden_sizes[-1] + len(features.numeric))

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        embeddings, first_order = split_first_order(pool(gathered, batch))
        fields = self.numeric(embeddings, batch)
        pairs = bi_interaction(fields).sum(dim=1)
        hidden = torch.cat([self.mlp(fields.flatten(1)), batch.numeric.to(fields.dtype)], dim=1)
        return HeadOutput(first_order + pairs + self.output(hidden), hidden)
