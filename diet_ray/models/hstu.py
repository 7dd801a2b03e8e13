"""Hierarchical sequential transduction units: attention without softmax over the history.

Zhai et al.: Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for
Generative Recommendations, ICML 2024, arXiv 2402.17152.

    X = (k_1, …, k_L, q)   for a sequence that shares the ids of a field, q
    [U, V, Q, K] = silu(W LN(X))
    A_ij = silu(⟨Q_i, K_j⟩ + c_{i−j}) / i   for j ≤ i, else 0   (per head)
    X ← X + W' (LN(A V) ∘ U) + b'   (num_cross_layers times)
    z = b + v · MLP([e_1, …, e_F])   with q's row of X in the place of the sequence

The unit alone, as the reader of a history; the paper makes the whole model of it, and of all fields
one sequence of actions. The relative bias c is by distance in items, not by time too, which the
log's histories don't have, and all heads share it. Norms have no gain or shift, as in the authors'
code. A sequence with ids of its own is mean-pooled; a log without any other sequence makes this
model a DNN.
"""

from __future__ import annotations

from torch import Tensor, nn

from diet_ray.data.batch import FeatureSpec
from diet_ray.models.attention import merge_heads, split_heads
from diet_ray.models.histories import Positions, with_target
from diet_ray.models.interest_network import InterestNetwork


class TransductionUnit(nn.Module):
    """x + W' (LN(A V) ∘ U) + b' for x (B, n, width): (B, n, width)."""

    def __init__(self, width: int, num_heads: int, max_distance: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.input = nn.Linear(width, 4 * num_heads * width, bias=False)
        self.bias = Positions(max_distance + 1, 1)
        self.heads_norm = nn.LayerNorm(num_heads * width, elementwise_affine=False)
        self.output = nn.Linear(num_heads * width, width)

    def forward(self, x: Tensor, distance: Tensor, seen: Tensor) -> Tensor:
        """distance (B, n, n), int64, how far j is before i; seen (B, n, n), whether i sees j."""
        gate, *mapped = nn.functional.silu(self.input(self.norm(x))).chunk(4, dim=2)
        value, query, key = (split_heads(part, self.num_heads) for part in mapped)
        bias = self.bias(distance.flatten(1)).view_as(distance.unsqueeze(1))
        attention = nn.functional.silu(query @ key.transpose(2, 3) + bias)
        num_seen = seen.sum(dim=2, keepdim=True).clamp_min(1)
        attention = (attention / num_seen.unsqueeze(1)).masked_fill(~seen.unsqueeze(1), 0.0)
        return x + self.output(self.heads_norm(merge_heads(attention @ value)) * gate)


class TargetTransducer(nn.Module):
    """Reader of one vector: the target's place behind transduction units."""

    def __init__(
        self, max_length: int, embedding_size: int, num_layers: int, num_heads: int
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TransductionUnit(embedding_size, num_heads, max_length) for _ in range(num_layers)
        )

    def forward(self, items: Tensor, target: Tensor, present: Tensor) -> Tensor:
        x, age, present = with_target(items, target, present)
        distance = age.unsqueeze(1) - age.unsqueeze(2)
        seen = (distance >= 0) & present.unsqueeze(1)
        distance = distance.clamp_min(0)
        for layer in self.layers:
            x = layer(x, distance, seen)
        return x[:, -1]


class HSTU(InterestNetwork):
    def __init__(
        self,
        features: FeatureSpec,
        embedding_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
        num_cross_layers: int,
        num_heads: int,
    ) -> None:
        if embedding_size < 2:
            raise ValueError(
                "embedding_size must be at least 2: of one number nothing is left once it is "
                "normalised"
            )
        super().__init__(
            features,
            embedding_size,
            hidden_sizes,
            dropout,
            lambda s: TargetTransducer(s.max_length, embedding_size, num_cross_layers, num_heads),
        )
