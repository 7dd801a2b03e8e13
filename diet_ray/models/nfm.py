"""Neural factorisation machine: a multi-layer perceptron over the pooled pairwise interactions.

He, Chua: Neural Factorization Machines for Sparse Predictive Analytics, SIGIR 2017,
arXiv 1708.05027; without its batch normalisation.

    z = b + Σ_i w[id_i] + Σ_n u_n x_n + v · MLP(Σ_{i<j} e_i ∘ e_j)
"""

from __future__ import annotations

import torch
from torch import Tensor

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.interactions import bi_interaction
from diet_ray.models.layers import NumericFields, Output, mlp, pool, split_first_order


class NFM(Recommender):
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
        self.mlp = mlp(embedding_size, hidden_sizes, dropout)
        self.output = Output(hidden_sizes[-1] + len(features.numeric))

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        embeddings, first_order = split_first_order(pool(gathered, batch))
        deep = self.mlp(bi_interaction(self.numeric(embeddings, batch)))
        hidden = torch.cat([deep, batch.numeric.to(deep.dtype)], dim=1)
        return HeadOutput(first_order + self.output(hidden), hidden)
