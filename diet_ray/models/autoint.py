"""Self-attention between fields.

Song, Shi, Xiao, Duan, Xu, Zhang, Tang: AutoInt: Automatic Feature Interaction Learning via
Self-Attentive Neural Networks, CIKM 2019, arXiv 1810.11921; its main form, without a deep part.

    α_h = softmax_j ⟨Q_h e_i, K_h e_j⟩,  e_i ← relu([Σ_j α_h V_h e_j]_h + R e_i)   (each layer)
    z = b + v · [e_1, …, e_F]

Each head has the embedding size, so that a layer hands on num_heads times as much. Scores aren't
scaled, as in the paper.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.attention import SelfAttention, attention_layers
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.layers import NumericFields, Output, pool


class AutoInt(Recommender):
    attention_layer: ClassVar[type[nn.Module]] = SelfAttention

    def __init__(
        self, features: FeatureSpec, embedding_size: int, num_cross_layers: int, num_heads: int
    ) -> None:
        super().__init__(features, embedding_size)
        self.numeric = NumericFields(features, embedding_size)
        self.attention = attention_layers(
            self.attention_layer, num_cross_layers, embedding_size, num_heads
        )
        self.output = Output(features.num_fields * num_heads * embedding_size)

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        hidden = self.attention(self.numeric(pool(gathered, batch), batch)).flatten(1)
        return HeadOutput(self.output(hidden), hidden)
