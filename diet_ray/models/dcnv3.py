"""Deep & cross network of an exponential and a linear cross network, without a perceptron.

Li, Zhang, Zhang, Li, Sang, Zhu: DCNv3: Towards Next Generation Deep Cross Network for CTR
Prediction, 2024, arXiv 2407.13349 (FCN in its later versions).

    x_0 = y_0 = [e_1, …, e_F]
    x_{l+1} = x_l ∘ ([c, c ∘ relu(LN(c))] + b_l) + x_l   with c = W_l x_l   (exponential)
    y_{l+1} = x_0 ∘ ([c, c ∘ relu(LN(c))] + b'_l) + y_l   with c = W'_l y_l   (linear)
    z = b + v · [x_L, y_L]

b_l stands inside the product, as in the authors' code. The mean of the two networks' logits is one
linear map of both ends. Without the loss of each network by itself (Tri-BCE): a model here has one
loss, that of its logit. One head (the authors' default); more would need more embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.interactions import MaskedCrossLayer
from diet_ray.models.layers import NumericFields, Output, dropout_layers, pool


class DCNv3(Recommender):
    def __init__(
        self, features: FeatureSpec, embedding_size: int, dropout: float, num_cross_layers: int
    ) -> None:
        super().__init__(features, embedding_size)
        width = features.num_fields * embedding_size
        self.numeric = NumericFields(features, embedding_size)
        self.exponential, self.linear_cross = (
            nn.ModuleList(MaskedCrossLayer(width) for _ in range(num_cross_layers))
            for _ in range(2)
        )
        self.exponential_dropout, self.linear_dropout = (
            nn.ModuleList(nn.Sequential(*dropout_layers(dropout)) for _ in range(num_cross_layers))
            for _ in range(2)
        )
        self.output = Output(2 * width)

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        x_0 = x = y = self.numeric(pool(gathered, batch), batch).flatten(1)
        for cross, drop in zip(self.exponential, self.exponential_dropout, strict=True):
            x = drop(cross(x, x))
        for cross, drop in zip(self.linear_cross, self.linear_dropout, strict=True):
            y = drop(cross(x_0, y))
        hidden = torch.cat([x, y], dim=1)
        return HeadOutput(self.output(hidden), hidden)
