"""Deep & cross network with an information gate on every cross, in its parallel form.

Wang, Gu, Li, Lu, Zhang, Gu: Towards Deeper, Lighter and Interpretable Cross Network for CTR
Prediction, CIKM 2023, arXiv 2311.04635.

    x_0 = [e_1, …, e_F],  x_{l+1} = x_0 ∘ (W_l x_l + b_l) ∘ σ(V_l x_l) + x_l
    z = b + v · [x_L, MLP(x_0)]

Embeddings are of one size: the paper's field-level sizes are a way to smaller tables, not a part of
the network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.interactions import GatedCrossLayer
from diet_ray.models.layers import NumericFields, Output, mlp, pool


class GDCN(Recommender):
    def __init__(
        self,
        features: FeatureSpec,
        embedding_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
        num_cross_layers: int,
    ) -> None:
        super().__init__(features, embedding_size)
        width = features.num_fields * embedding_size
        self.numeric = NumericFields(features, embedding_size)
        self.cross = nn.ModuleList(GatedCrossLayer(width) for _ in range(num_cross_layers))
        self.mlp = mlp(width, hidden_sizes, dropout)
        self.output = Output(width + hidden_sizes[-1])

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        x_0 = x = self.numeric(pool(gathered, batch), batch).flatten(1)
        for layer in self.cross:
            x = layer(x_0, x)
        hidden = torch.cat([x, self.mlp(x_0)], dim=1)
        return HeadOutput(self.output(hidden), hidden)
