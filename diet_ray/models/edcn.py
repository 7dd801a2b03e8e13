"""Deep & cross network whose two halves share what they found after every layer.

Chen, Wang, Liu, Tang, Guo, Zheng, Yao, Zhang, He: Enhancing Explicit and Implicit Feature
Interactions via Information Sharing for Parallel Deep CTR Models, CIKM 2021.

    s_0 = [e_1, …, e_F]
    x_l = g_l ∘ s_l,  h_l = g'_l ∘ s_l   (regulation: g = F · softmax(a)_f at field f)
    x = x_0 (x_l · w_l) + b_l + x_l,  h = relu(W_l h_l + c_l),  s_{l+1} = x ∘ h   (bridge)
    z = b + v · [x, h, s_L]   with x and h of the last layer

Both halves stay as wide as [e_1, …, e_F], so hidden_sizes has no part. The bridge is the paper's
Hadamard product. Shares are times F, so that regulation begins as the identity; that makes up for
the batch normalisation behind it, which is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.interactions import CrossLayer, FieldShares
from diet_ray.models.layers import NumericFields, Output, mlp, pool


class _Level(nn.Module):
    """Regulation, cross layer and deep layer."""

    def __init__(self, num_fields: int, width: int, dropout: float) -> None:
        super().__init__()
        self.cross_shares, self.deep_shares = FieldShares(num_fields), FieldShares(num_fields)
        self.cross = CrossLayer(width)
        self.deep = mlp(width, (width,), dropout)

    def forward(self, shared: Tensor, x_0: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """x_0, which is the first level's own, and what both halves give, all (B, F·d)."""
        x = self.cross_shares(shared).flatten(1)
        h = self.deep_shares(shared).flatten(1)
        x_0 = x if x_0 is None else x_0
        return x_0, self.cross(x_0, x), self.deep(h)


class EDCN(Recommender):
    def __init__(
        self, features: FeatureSpec, embedding_size: int, dropout: float, num_cross_layers: int
    ) -> None:
        super().__init__(features, embedding_size)
        num_fields = features.num_fields
        width = num_fields * embedding_size
        self.numeric = NumericFields(features, embedding_size)
        self.levels = nn.ModuleList(
            _Level(num_fields, width, dropout) for _ in range(num_cross_layers)
        )
        self.output = Output(3 * width)

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        shared = self.numeric(pool(gathered, batch), batch)
        x_0 = None
        for level in self.levels:
            x_0, x, h = level(shared, x_0)
            shared = (x * h).view_as(shared)
        hidden = torch.cat([x, h, shared.flatten(1)], dim=1)
        return HeadOutput(self.output(hidden), hidden)
