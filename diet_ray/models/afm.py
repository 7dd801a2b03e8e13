"""Attentional factorisation machine: pairwise interactions, weighted by attention.

Xiao, Ye, He, Zhang, Wu, Chua: Attentional Factorization Machines: Learning the Weight of Feature
Interactions via Attention Networks, IJCAI 2017, arXiv 1708.04617.

    a_ij = softmax_{i<j} h · relu(W (e_i ∘ e_j) + c)
    z = b + Σ_i w[id_i] + Σ_n u_n x_n + v · Σ_{i<j} a_ij e_i ∘ e_j

The attention network is as wide as an embedding, as in BARS. Dropout is on the weighted sum.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.interactions import pairwise_vectors
from diet_ray.models.layers import NumericFields, Output, dropout_layers, pool, split_first_order


class AFM(Recommender):
    linear = True

    def __init__(self, features: FeatureSpec, embedding_size: int, dropout: float) -> None:
        super().__init__(features, embedding_size)
        self.numeric = NumericFields(features, embedding_size)
        self.attention = nn.Sequential(
            nn.Linear(embedding_size, embedding_size),
            nn.ReLU(),
            nn.Linear(embedding_size, 1, bias=False),
        )
        self.dropout = nn.Sequential(*dropout_layers(dropout))
        self.output = Output(embedding_size + len(features.numeric))

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        embeddings, first_order = split_first_order(pool(gathered, batch))
        pairs = pairwise_vectors(self.numeric(embeddings, batch))
        share = torch.softmax(self.attention(pairs), dim=1)
        pooled = self.dropout((share * pairs).sum(dim=1))
        hidden = torch.cat([pooled, batch.numeric.to(pooled.dtype)], dim=1)
        return HeadOutput(first_order + self.output(hidden), hidden)
