"""Product-based network with inner products (IPNN).

Qu, Cai, Ren, Zhang, Yu, Wen, Wang: Product-based Neural Networks for User Response Prediction,
ICDM 2016, arXiv 1611.00144.

    z = b + v · MLP([e_1, …, e_F, (⟨e_i, e_j⟩)_{i<j}])

The perceptron's first layer is the paper's product layer, l_z + l_p + b_1, with a weight of its own
for each pair instead of the paper's rank-one factorisation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.interactions import pairwise_products
from diet_ray.models.layers import NumericFields, Output, mlp, pool


class PNN(Recommender):
    def __init__(
        self,
        features: FeatureSpec,
        embedding_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
    ) -> None:
        super().__init__(features, embedding_size)
        num_fields = features.num_fields
        self.numeric = NumericFields(features, embedding_size)
        width = num_fields * embedding_size + num_fields * (num_fields - 1) // 2
        self.mlp = mlp(width, hidden_sizes, dropout)
        self.output = Output(hidden_sizes[-1])

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        fields = self.numeric(pool(gathered, batch), batch)
        hidden = self.mlp(torch.cat([fields.flatten(1), pairwise_products(fields)], dim=1))
        return HeadOutput(self.output(hidden), hidden)
