"""Transformer over a history whose every item is joined with the candidate, and cross layers.

Xia, Eksombatchai, Pancha, Badani, Wang, Gu, Joshi, Farahpour, Zhang, Zhai: TransAct:
Transformer-based Realtime User Action Model for Recommendation at Pinterest, KDD 2023,
arXiv 2306.00248.

    X = ([k_1, q], …, [k_L, q])   for a sequence that shares the ids of a field, q
    X ← transformer layer(X)   (num_cross_layers times)
    x_0 = [e_1, …, e_F]   with [X_L, W max_l X_l + c], four vectors, in the place of the sequence
    x_{l+1} = x_0 ∘ (W_l x_l + b_l) + x_l,  z = b + v · [x_L, MLP(x_0)]   (DCNv2)

Of the history's latest items one is handed on, not the paper's ten, beside the maximum over all.
No positions, as in the paper; no kinds of action and no random time window, as the log's histories
have neither kinds nor times. A sequence with ids of its own is mean-pooled; a log without any other
sequence makes this model a DCNv2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.attention import TransformerLayer
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.histories import Interests, ages
from diet_ray.models.interactions import MatrixCrossLayer
from diet_ray.models.layers import NumericFields, Output, mlp

_NUM_VECTORS = 4


class ActionTransformer(nn.Module):
    """Reader of four vectors: the latest item's place, and the mapped maximum over all places."""

    def __init__(
        self, embedding_size: int, num_layers: int, num_heads: int, dropout: float
    ) -> None:
        super().__init__()
        width = 2 * embedding_size
        self.layers = nn.ModuleList(
            TransformerLayer(width, num_heads, dropout, nn.ReLU()) for _ in range(num_layers)
        )
        self.largest = nn.Linear(width, width)

    def forward(self, items: Tensor, target: Tensor, present: Tensor) -> Tensor:
        x = torch.cat([items, target.unsqueeze(1).expand_as(items)], dim=2)
        for layer in self.layers:
            x = layer(x, present)
        is_latest = (ages(present) == 1).unsqueeze(2)
        latest = x.masked_fill(~is_latest, 0.0).sum(dim=1)
        largest = x.masked_fill(~present.unsqueeze(2), torch.finfo(x.dtype).min).amax(dim=1)
        # Zero for an empty history.
        largest = largest.masked_fill(~present.any(dim=1, keepdim=True), 0.0)
        return torch.cat([latest, self.largest(largest)], dim=1)


class TransAct(Recommender):
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
        self.interests = Interests(
            features,
            lambda _: ActionTransformer(embedding_size, num_cross_layers, num_heads, dropout),
        )
        self.numeric = NumericFields(features, embedding_size)
        num_vectors = features.num_fields + (_NUM_VECTORS - 1) * len(self.interests)
        width = num_vectors * embedding_size
        self.cross = nn.ModuleList(MatrixCrossLayer(width) for _ in range(num_cross_layers))
        self.mlp = mlp(width, hidden_sizes, dropout)
        self.output = Output(width + hidden_sizes[-1])

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        x_0 = x = self.numeric(self.interests(gathered, batch), batch).flatten(1)
        for layer in self.cross:
            x = layer(x_0, x)
        hidden = torch.cat([x, self.mlp(x_0)], dim=1)
        return HeadOutput(self.output(hidden), hidden)
