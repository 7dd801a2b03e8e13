"""The parts that models are wired from.

Names: B rows, C categorical, S sequence and N numeric fields, F = C + S + N fields in this order,
P = C + S·L positions, d the embedding size. No part mixes the rows of a batch (no batch
normalisation), so that the gradient of each row exists by itself.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from diet_ray.data.batch import PADDING_ID, Batch, FeatureSpec
from diet_ray.models.base import EMBEDDING_SD


def split_positions(gathered: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Categorical embeddings (B, C, width) and sequence items (B, S, L, width)."""
    num_rows, num_sequences, length = batch.sequence.shape
    num_items = num_sequences * length
    categorical, items = gathered.split([gathered.shape[1] - num_items, num_items], dim=1)
    return categorical, items.reshape(num_rows, num_sequences, length, gathered.shape[2])


def mean_pool(items: Tensor, present: Tensor) -> Tensor:
    """Mean (B, S, width) of those among items (B, S, L, width) that are present; zero if none is.

    present: (B, S, L), bool.
    """
    share = present.to(items.dtype)
    share = share / share.sum(dim=2, keepdim=True).clamp_min(1.0)
    # Three times as fast, forth and back, as the matrix product that it is.
    return (items * share.unsqueeze(3)).sum(dim=2)


def pool(gathered: Tensor, batch: Batch) -> Tensor:
    """One vector for each categorical and sequence field, (B, C + S, width).

    A sequence is the mean over its items; padding neither counts nor gets a gradient.
    """
    if batch.sequence.shape[1] == 0:
        return gathered
    categorical, items = split_positions(gathered, batch)
    return torch.cat([categorical, mean_pool(items, batch.sequence != PADDING_ID)], dim=1)


def split_first_order(pooled: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings (B, C + S, d), and the sum (B,) of the first-order weights in the last column."""
    embeddings, first_order = pooled.split([pooled.shape[2] - 1, 1], dim=2)
    return embeddings, first_order.sum(dim=(1, 2))


class NumericFields(nn.Module):
    """Appends the embeddings value · vector of the numeric fields: (B, C + S, d) to (B, F, d)."""

    def __init__(self, features: FeatureSpec, embedding_size: int) -> None:
        super().__init__()
        self.vectors: nn.Parameter | None = None
        if features.numeric:
            vectors = torch.empty(len(features.numeric), embedding_size)
            self.vectors = nn.Parameter(nn.init.normal_(vectors, std=EMBEDDING_SD))

    def forward(self, embeddings: Tensor, batch: Batch) -> Tensor:
        if self.vectors is None:
            return embeddings
        numeric = batch.numeric.to(embeddings.dtype)
        return torch.cat([embeddings, numeric.unsqueeze(2) * self.vectors], dim=1)


class Dropout(nn.Module):
    """Dropout whose masks follow from its own seed and count of calls.

    Both are part of the state dict, so that a resumed training draws the masks that an unbroken
    one would have drawn.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.seed = int(torch.randint(2**62, ()))
        self.num_calls = 0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        generator = torch.Generator(x.device).manual_seed(self.seed + self.num_calls)
        self.num_calls += 1
        kept = torch.empty_like(x).bernoulli_(1.0 - self.share, generator=generator)
        return x * kept / (1.0 - self.share)

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.seed, self.num_calls], dtype=torch.int64)

    def set_extra_state(self, state: Tensor) -> None:
        self.seed, self.num_calls = (int(value) for value in state)


def mlp(in_features: int, hidden_sizes: tuple[int, ...], dropout: float) -> nn.Sequential:
    """Linear, ReLU and dropout for each of `hidden_sizes`."""
    layers: list[nn.Module] = []
    for width, out_features in itertools.pairwise((in_features, *hidden_sizes)):
        layers += [nn.Linear(width, out_features), nn.ReLU()]
        if dropout > 0:
            layers.append(Dropout(dropout))
    return nn.Sequential(*layers)


class Output(nn.Linear):
    """The last linear layer, H to 1; its bias, the log odds, begins at zero. H may be 0."""

    def __init__(self, in_features: int) -> None:
        super().__init__(in_features, 1)

    def reset_parameters(self) -> None:
        bound = 1.0 / math.sqrt(max(1, self.in_features))
        with torch.no_grad():
            self.weight.uniform_(-bound, bound)
            self.bias.zero_()

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, H) to (B,)."""
        return super().forward(hidden).squeeze(1)


def bi_interaction(fields: Tensor) -> Tensor:
    """Σ_{i<j} e_i ∘ e_j = ½ [(Σ e)² − Σ e²] over fields (B, F, d), elementwise: (B, d)."""
    return 0.5 * (fields.sum(dim=1).square() - fields.square().sum(dim=1))


def pairwise_products(fields: Tensor) -> Tensor:
    """Inner products ⟨e_i, e_j⟩, i < j in row-major order, of fields (B, F, d): (B, F(F−1)/2)."""
    num_fields = fields.shape[1]
    i, j = torch.triu_indices(num_fields, num_fields, offset=1, device=fields.device)
    return (fields @ fields.transpose(1, 2))[:, i, j]


class CrossLayer(nn.Module):
    """x_0 (w · x) + b + x, for x_0 and x (B, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Linear(width, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x_0: Tensor, x: Tensor) -> Tensor:
        return x_0 * self.weight(x) + self.bias + x


class MatrixCrossLayer(nn.Module):
    """x_0 ∘ (W x + b) + x, for x_0 and x (B, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x_0: Tensor, x: Tensor) -> Tensor:
        return x_0 * self.linear(x) + x


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
            layer(fields).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        # Written out: torch's fused attention has no second derivative.
        attention = torch.softmax(query @ key.transpose(2, 3), dim=3)
        heads = (attention @ value).transpose(1, 2).flatten(2)
        return torch.relu(heads + self.residual(fields))


class TargetAttention(nn.Module):
    """Sum (B, d) of a sequence's items (B, L, d), weighted by an MLP of [h_l, h_l − t, h_l ∘ t, t].

    t: the target's embedding (B, d). Weights aren't normalised; padding has none.
    """

    def __init__(self, embedding_size: int, hidden_size: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(*mlp(4 * embedding_size, (hidden_size,), 0.0), Output(hidden_size))

    def forward(self, items: Tensor, target: Tensor, present: Tensor) -> Tensor:
        """present: (B, L), bool."""
        t = target.unsqueeze(1).expand_as(items)
        pairs = torch.cat([items, items - t, items * t, t], dim=2)
        weight = self.mlp(pairs.flatten(0, 1)).view(present.shape).masked_fill(~present, 0.0)
        return (items * weight.unsqueeze(2)).sum(dim=1)


class FieldGate(nn.Module):
    """2σ(a) ∘ x for x (B, D): a soft choice among inputs; begins as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.choice = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return 2.0 * torch.sigmoid(self.choice) * x


class BilinearFusion(nn.Module):
    """Σ_k x_k · W_k y_k (B,), over the parts of x and y (B, H), cut alike into `num_heads` parts.

    Parts differ by one where H can't be divided; there are at most H.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        num_heads = min(num_heads, width)
        self.sizes = [len(part) for part in torch.arange(width).tensor_split(num_heads)]
        self.heads = nn.ModuleList(nn.Linear(size, size, bias=False) for size in self.sizes)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        parts = zip(self.heads, x.split(self.sizes, 1), y.split(self.sizes, 1), strict=True)
        products = [x_k * head(y_k) for head, x_k, y_k in parts]
        return torch.cat(products, dim=1).sum(dim=1)
