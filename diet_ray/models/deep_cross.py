"""Cross layers beside a multi-layer perceptron: what the deep & cross networks share."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.layers import NumericFields, Output, mlp, pool


class DeepCross(Recommender):
    """z = b + v · [x_L, MLP(x_0)] with x_0 = [e_1, …, e_F] and x_{l+1} = cross_layer(x_0, x_l)."""

    cross_layer: ClassVar[type[nn.Module]]
    """Made with the width of x_0."""

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
        self.cross = nn.ModuleList(self.cross_layer(width) for _ in range(num_cross_layers))
        self.mlp = mlp(width, hidden_sizes, dropout)
        self.output = Output(width + hidden_sizes[-1])

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        x_0 = x = self.numeric(pool(gathered, batch), batch).flatten(1)
        for layer in self.cross:
            x = layer(x_0, x)
        hidden = torch.cat([x, self.mlp(x_0)], dim=1)
        return HeadOutput(self.output(hidden), hidden)
