"""A linear model and a multi-layer perceptron, trained as one.

Cheng et al.: Wide & Deep Learning for Recommender Systems, DLRS 2016, arXiv 1606.07792.

    z = b + Σ_i w[id_i] + Σ_n u_n x_n + v · MLP([e_1, …, e_F])

The wide part takes the fields as they are: the paper's hand-made crosses are the schema's matter.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.layers import NumericFields, Output, mlp, pool, split_first_order


class WideDeep(Recommender):
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
        deep = self.mlp(self.numeric(embeddings, batch).flatten(1))
        hidden = torch.cat([deep, batch.numeric.to(deep.dtype)], dim=1)
        return HeadOutput(first_order + self.output(hidden), hidden)
