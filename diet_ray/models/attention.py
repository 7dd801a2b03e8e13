"""Attention between the fields of a row, or between the items of its history.

Names as in `layers`, and n places (fields or items) of a row. A head has the width of what it is
given, whatever the number of heads, so that any number goes with any embedding size. Products and
softmax are written out: torch's fused attention has no second derivative.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from diet_ray.models.layers import dropout_layers


def masked_softmax(scores: Tensor, present: Tensor) -> Tensor:
    """Softmax over the last dimension among what is present; zero elsewhere, or if nothing is.

    present: bool, broadcast to the shape of `scores`.
    """
    # Minus infinity would make rows without anything NaN.
    least = torch.finfo(scores.dtype).min
    share = torch.softmax(scores.masked_fill(~present, least), dim=-1)
    return share.masked_fill(~present, 0.0)


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, n, num_heads · size) to (B, num_heads, n, size)."""
    return x.unflatten(2, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, num_heads, n, size) to (B, n, num_heads · size)."""
    return x.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """ReLU([head_1, …, head_H] + W_res e_i) for every field i: (B, F, width) to (B, F, H·d).

    A head is Σ_j α_ij W_V e_j with α_i = softmax_j ⟨W_Q e_i, W_K e_j⟩, of size d.
    """

    def __init__(self, in_features: int, head_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value, self.residual = (
            nn.Linear(in_features, num_heads * head_size, bias=False) for _ in range(4)
        )

    def forward(self, fields: Tensor) -> Tensor:
        query, key, value = (
            split_heads(layer(fields), self.num_heads)
            for layer in (self.query, self.key, self.value)
        )
        attention = torch.softmax(query @ key.transpose(2, 3), dim=3)
        return torch.relu(merge_heads(attention @ value) + self.residual(fields))


def attention_layers(
    layer: type[nn.Module], num_layers: int, embedding_size: int, num_heads: int
) -> nn.Sequential:
    """(B, F, d) to (B, F, H·d): layers made, as `SelfAttention`, of what comes in, d and H."""
    width = num_heads * embedding_size
    return nn.Sequential(
        *(
            layer(width if i else embedding_size, embedding_size, num_heads)
            for i in range(num_layers)
        )
    )


class MultiHeadAttention(nn.Module):
    """W_O [head_1, …, head_H] at every place of x (B, n, width): (B, n, width).

    A head at place i is Σ_j α_ij W_V x_j with α_i = softmax_j ⟨W_Q x_i, W_K x_j⟩ / √width, over the
    places j that are present.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value = (
            nn.Linear(width, num_heads * width, bias=False) for _ in range(3)
        )
        self.output = nn.Linear(num_heads * width, width, bias=False)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """present: (B, n), bool."""
        query, key, value = (
            split_heads(layer(x), self.num_heads) for layer in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(x.shape[2])
        attention = masked_softmax(scores, present[:, None, None])
        return self.output(merge_heads(attention @ value))


class TransformerLayer(nn.Module):
    """y = LN(x + attention(x)), then LN(y + W_2 a(W_1 y + b_1) + b_2): (B, n, width) to the same.

    The inner layer is as wide as the outer one; `activation` is a.
    """

    def __init__(self, width: int, num_heads: int, dropout: float, activation: nn.Module) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(width, num_heads)
        self.attention_dropout = nn.Sequential(*dropout_layers(dropout))
        self.attention_norm = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, width),
            activation,
            nn.Linear(width, width),
            *dropout_layers(dropout),
        )
        self.feedforward_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """present: (B, n), bool."""
        attended = self.attention_dropout(self.attention(x, present))
        y: Tensor = self.attention_norm(x + attended)
        result: Tensor = self.feedforward_norm(y + self.feedforward(y))
        return result
