"""Behaviour sequence transformer: history and candidate item, read as one sequence.

Chen, Zhao, Li, Huang, Ou: Behavior Sequence Transformer for E-commerce Recommendation in Alibaba,
DLP-KDD 2019, arXiv 1905.06874.

    X = ([k_1, p_L], …, [k_L, p_1], [q, p_0])   for a sequence that shares the ids of a field, q
    X ← transformer layer(X)   (num_cross_layers times)
    z = b + v · MLP([e_1, …, e_F])   with q's row of X, two vectors, in the place of the sequence

p are learned by an item's age in items, as the log has no times of a history's items. Layers are
normalised behind each part, with LeakyReLU, as in the paper. Of the last layer the candidate's
place is handed on, not all places, so that the perceptron doesn't depend on the history's length.
A sequence with ids of its own is mean-pooled; a log without any other sequence makes this model a
DNN.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diet_ray.data.batch import FeatureSpec
from diet_ray.models.attention import TransformerLayer
from diet_ray.models.histories import Positions, with_target
from diet_ray.models.interest_network import InterestNetwork


class TargetTransformer(nn.Module):
    """Reader of two vectors: the target's place behind transformer layers."""

    def __init__(
        self, max_length: int, embedding_size: int, num_layers: int, num_heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.positions = Positions(max_length + 1, embedding_size)
        self.layers = nn.ModuleList(
            TransformerLayer(2 * embedding_size, num_heads, dropout, nn.LeakyReLU())
            for _ in range(num_layers)
        )

    def forward(self, items: Tensor, target: Tensor, present: Tensor) -> Tensor:
        places, age, present = with_target(items, target, present)
        x = torch.cat([places, self.positions(age)], dim=2)
        for layer in self.layers:
            x = layer(x, present)
        return x[:, -1]


class BST(InterestNetwork):
    def __init__(
        self,
        features: FeatureSpec,
        embedding_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
        num_cross_layers: int,
        num_heads: int,
    ) -> None:
        super().__init__(
            features,
            embedding_size,
            hidden_sizes,
            dropout,
            lambda s: TargetTransformer(
                s.max_length, embedding_size, num_cross_layers, num_heads, dropout
            ),
            num_vectors=2,
        )
