"""Self-attention between fields beside a multi-layer perceptron.

Song, Shi, Xiao, Duan, Xu, Zhang, Tang: AutoInt: Automatic Feature Interaction Learning via
Self-Attentive Neural Networks, CIKM 2019, arXiv 1810.11921; its joint form, AutoInt+.

    z = b + v · [e'_1, …, e'_F, MLP([e_1, …, e_F])]

with e' the fields behind the attention layers of `diet_ray.models.autoint`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.attention import SelfAttention, attention_layers
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.layers import NumericFields, Output, mlp, pool


class AutoIntPlus(Recommender):
    def __init__(
        self,
        features: FeatureSpec,
        embedding_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
        num_cross_layers: int,
        num_heads: int,
    ) -> None:
        super().__init__(features, embedding_size)
        num_fields, width = features.num_fields, num_heads * embedding_size
        self.numeric = NumericFields(features, embedding_size)
        self.attention = attention_layers(
            SelfAttention, num_cross_layers, embedding_size, num_heads
        )
        self.mlp = mlp(num_fields * embedding_size, hidden_sizes, dropout)
        self.output = Output(num_fields * width + hidden_sizes[-1])

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        fields = self.numeric(pool(gathered, batch), batch)
        attended = self.attention(fields).flatten(1)
        hidden = torch.cat([attended, self.mlp(fields.flatten(1))], dim=1)
        return HeadOutput(self.output(hidden), hidden)
