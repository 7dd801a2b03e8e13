"""The parts that every kind of model is wired from; more are in `interactions`, `attention` and
`histories`.

Names: B rows, C categorical, S sequence and N numeric fields, F = C + S + N fields in this order,
P = C + S·L positions, d the embedding size. No part mixes the rows of a batch (no batch
normalisation), so that the gradient of each row exists by itself.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

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


class BatchPart(NamedTuple):
    """Rows of a mini-batch that is spread over processes."""

    rows: slice
    num_rows: int
    """Of the whole mini-batch."""


class Dropout(nn.Module):
    """Dropout whose masks follow from its own seed and count of calls.

    Both are part of the state dict, so that a resumed training draws the masks that an unbroken
    one would have drawn.
    """

    part: BatchPart | None = None
    """The rows that this process has of the mini-batch: it draws the mask of all, and takes theirs.
    None: all rows."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.seed = int(torch.randint(2**62, ()))
        self.num_calls = 0

    def forward(self, x: Tensor) -> Tensor:
        return x * self.draw(x) / (1.0 - self.share) if self.training else x

    def draw(self, x: Tensor) -> Tensor:
        """The mask of the next call, 0 or 1 for every unit of x; counts as that call."""
        generator = torch.Generator(x.device).manual_seed(self.seed + self.num_calls)
        self.num_calls += 1
        whole = torch.empty_like(x)
        if self.part is not None:
            whole = x.new_empty(self.part.num_rows, *x.shape[1:])
        whole.bernoulli_(1.0 - self.share, generator=generator)
        return whole if self.part is None else whole[self.part.rows]

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.seed, self.num_calls], dtype=torch.int64)

    def set_extra_state(self, state: Tensor) -> None:
        self.seed, self.num_calls = (int(value) for value in state)


def set_dropout(model: nn.Module, share: float) -> None:
    """Sets the share of every dropout layer of a model."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.share = share


def dropout_layers(share: float) -> list[nn.Module]:
    """Dropout, or nothing where `share` is zero."""
    return [Dropout(share)] if share > 0 else []


def mlp(in_features: int, hidden_sizes: tuple[int, ...], dropout: float) -> nn.Sequential:
    """Linear, ReLU and dropout for each of `hidden_sizes`."""
    layers: list[nn.Module] = []
    for width, out_features in itertools.pairwise((in_features, *hidden_sizes)):
        layers += [nn.Linear(width, out_features), nn.ReLU(), *dropout_layers(dropout)]
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
