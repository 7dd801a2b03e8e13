"""Two stacks of factorised interaction layers, whose order doubles with each layer.

Zhu, Jia, Cai, Dai, Li, Dong, Tang, Zhang: FINAL: Factorized Interaction Layer for CTR Prediction,
SIGIR 2023 (FinalNet in FuxiCTR and BARS).

    layer(x) = [s, s ∘ t]   with [s, t] = W x + b, halves of one of hidden_sizes
    x = [e_1, …, e_F],  g_d = W_g (e_1d, …, e_Fd) + b_g   (zero and one at first)
    o_1 = layers_1([x, x ∘ g]),  o_2 = layers_2(x)
    z = b + v · [o_1, o_2]

Without its batch normalisation, and without the loss by which the two stacks learn from their mean:
a model here has one loss, that of its logit. Where a size is odd, s has one more than t.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.layers import NumericFields, Output, dropout_layers, pool


class FactorizedInteraction(nn.Module):
    """[s, s ∘ t] with [s, t] = W x + b: (B, in_features) to (B, out_features)."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.num_products = out_features // 2

    def forward(self, x: Tensor) -> Tensor:
        mapped = self.linear(x)
        s, t = mapped.split([mapped.shape[1] - self.num_products, self.num_products], dim=1)
        return torch.cat([s, s[:, : self.num_products] * t], dim=1)


class FieldwiseGate(nn.Module):
    """Fields (B, F, d) and, behind them, fields ∘ gates that all fields together decide on."""

    def __init__(self, num_fields: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_fields, num_fields)
        nn.init.zeros_(self.linear.weight)
        nn.init.ones_(self.linear.bias)

    def forward(self, fields: Tensor) -> Tensor:
        gate = self.linear(fields.transpose(1, 2)).transpose(1, 2)
        return torch.cat([fields, fields * gate], dim=1)


def _stack(in_features: int, hidden_sizes: tuple[int, ...], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, out_features in itertools.pairwise((in_features, *hidden_sizes)):
        layers += [FactorizedInteraction(width, out_features), *dropout_layers(dropout)]
    return nn.Sequential(*layers)


class FINAL(Recommender):
    def __init__(
        self,
        features: FeatureSpec,
        embedding_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
    ) -> None:
        super().__init__(features, embedding_size)
        width = features.num_fields * embedding_size
        self.numeric = NumericFields(features, embedding_size)
        self.gate = FieldwiseGate(features.num_fields)
        self.gated_stack = _stack(2 * width, hidden_sizes, dropout)
        self.stack = _stack(width, hidden_sizes, dropout)
        self.output = Output(2 * hidden_sizes[-1])

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        fields = self.numeric(pool(gathered, batch), batch)
        gated = self.gated_stack(self.gate(fields).flatten(1))
        hidden = torch.cat([gated, self.stack(fields.flatten(1))], dim=1)
        return HeadOutput(self.output(hidden), hidden)
