"""Factorisation machine, multi-layer perceptron, and a compressed interaction network (CIN).

Lian, Zhou, Zhang, Chen, Xie, Sun: xDeepFM: Combining Explicit and Implicit Feature Interactions
for Recommender Systems, KDD 2018, arXiv 1803.05170.

    X^0 = (e_1, …, e_F),  x^k_h = Σ_i Σ_j W^k_hij x^{k−1}_i ∘ e_j   (num_cross_layers times)
    z = b + Σ_i w[id_i] + Σ_n u_n x_n + v · [MLP([e_1, …, e_F]), (Σ_d x^k_hd)_hk]

CIN layers have `NUM_FEATURE_MAPS` maps h (the paper's hundred or two cost ten times all the rest),
no activation, as in the paper, and are pooled whole. As in the paper, the linear part has no second
order: that is what the first CIN layer gives.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.layers import NumericFields, Output, mlp, pool, split_first_order

NUM_FEATURE_MAPS = 16


class CompressedInteractions(nn.Module):
    """Sums over d of all layers' feature maps, (B, num_layers · maps), of fields (B, F, d)."""

    def __init__(self, num_fields: int, num_layers: int) -> None:
        super().__init__()
        sizes = [num_fields] + [NUM_FEATURE_MAPS] * (num_layers - 1)
        self.maps = nn.ModuleList(
            nn.Linear(size * num_fields, NUM_FEATURE_MAPS, bias=False) for size in sizes
        )

    def forward(self, fields: Tensor) -> Tensor:
        x_0 = x = fields.transpose(1, 2)
        pooled = []
        for layer in self.maps:
            x = layer((x.unsqueeze(3) * x_0.unsqueeze(2)).flatten(2))
            pooled.append(x.sum(dim=1))
        return torch.cat(pooled, dim=1)


class XDeepFM(Recommender):
    linear = True

    def __init__(
        self,
        features: FeatureSpec,
        embedding_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
        num_cross_layers: int,
    ) -> None:
        super().__init__(features, embedding_size)
        num_fields, num_pooled = features.num_fields, num_cross_layers * NUM_FEATURE_MAPS
        self.numeric = NumericFields(features, embedding_size)
        self.cin = CompressedInteractions(num_fields, num_cross_layers)
        self.mlp = mlp(num_fields * embedding_size, hidden_sizes, dropout)
        self.output = Output(hidden_sizes[-1] + num_pooled + len(features.numeric))

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        embeddings, first_order = split_first_order(pool(gathered, batch))
        fields = self.numeric(embeddings, batch)
        numeric = batch.numeric.to(fields.dtype)
        hidden = torch.cat([self.mlp(fields.flatten(1)), self.cin(fields), numeric], dim=1)
        return HeadOutput(first_order + self.output(hidden), hidden)
