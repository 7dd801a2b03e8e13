"""The contract of every click model: one gather from the embedding table, then a head.

Keeping the gather apart from the head is what makes the rest cheap: the training loop updates only
the table rows that a batch touched, and influence scores get the gradient at the embeddings, hence
per-row gradient norms in closed form, without a gradient as large as the table.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from diet_ray.data.batch import PADDING_ID, Batch, FeatureSpec

EMBEDDING_SD = 0.01
TABLE_WEIGHT = "table.weight"
"""Name of the table among a model's parameters."""


class HeadOutput(NamedTuple):
    logit: Tensor
    """(B,)"""
    hidden: Tensor
    """(B, H): the input of the model's `output` layer, whose value is added to the logit, so that
    ∂logit/∂(output weights, bias) = (hidden, 1). H = 0 for a model whose only such weight is a
    bias."""


class EmbeddingTable(nn.Module):
    """The ids of all categorical and sequence fields in one matrix.

    Position p of a row's ids (B, P) is: categorical fields in order, then the L items of each
    sequence in order. `weight` is (rows, width); field f's id i lies in row `offsets[p] + i`.
    A sequence that shares a categorical field's ids shares its rows. Rows of `PADDING_ID` are zero
    and stay so. With `linear=True` the last column holds first-order weights, which begin at zero.

    The first values are those of `initial_table` under `seed`; without one, under the seed that
    torch's default generator was last given.
    """

    offsets: Tensor
    column_mask: Tensor | None
    """(P, width): 1 where a position's field has a column, else 0; None if all have all."""

    def __init__(
        self,
        features: FeatureSpec,
        embedding_size: int,
        *,
        linear: bool,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.features = features
        self.embedding_size = embedding_size
        self.linear = linear
        self.block_sizes = block_sizes(features)
        seed = torch.initial_seed() if seed is None else seed
        self.weight = nn.Parameter(initial_table(features, embedding_size, linear, seed))
        self.narrow_sizes: dict[str, int] = {}
        """By vocabulary, of those whose embeddings are smaller than `embedding_size`."""
        self.register_buffer("offsets", self._position_offsets(), persistent=False)
        self.register_buffer("column_mask", None, persistent=False)

    @property
    def block_starts(self) -> tuple[int, ...]:
        """First table row of each vocabulary, which is that of its `PADDING_ID`."""
        return tuple(itertools.accumulate(self.block_sizes, initial=0))[:-1]

    def _position_offsets(self) -> Tensor:
        features, starts = self.features, self.block_starts
        offsets = list(starts[: len(features.categorical)])
        own = len(features.categorical)
        for s in features.sequence:
            if s.target is None:
                start, own = starts[own], own + 1
            else:
                start = starts[features.categorical.index(s.target)]
            offsets += [start] * features.max_sequence_length
        return torch.tensor(offsets, dtype=torch.int64)

    @torch.no_grad()
    def narrow(self, sizes: Mapping[str, int]) -> None:
        """Gives some vocabularies, by name, embeddings of fewer columns than `embedding_size`.

        Theirs are padded with zeros to the common width, and stay so, as `masked` takes the
        gradient from there.
        """
        self.narrow_sizes = dict(sizes)
        if not sizes:
            return
        for block in self.padding_columns():
            block.zero_()
        names = vocabulary_names(self.features)
        limits = {
            start: sizes.get(name, self.embedding_size)
            for start, name in zip(self.block_starts, names, strict=True)
        }
        limit = torch.tensor([limits[start] for start in self.offsets.tolist()]).unsqueeze(1)
        column = torch.arange(self.weight.shape[1])
        is_padding = (limit <= column) & (column < self.embedding_size)
        self.column_mask = (~is_padding).to(self.weight)

    def padding_columns(self) -> list[Tensor]:
        """What of `weight` only brings embeddings to the common width: a view for each vocabulary
        with fewer columns, (its rows, columns that it lacks)."""
        blocks = self.weight.split(self.block_sizes)
        return [
            block[:, self.narrow_sizes[name] : self.embedding_size]
            for name, block in zip(vocabulary_names(self.features), blocks, strict=True)
            if name in self.narrow_sizes
        ]

    def masked(self, gradient: Tensor) -> Tensor:
        """A gradient (B, P, width) at gathered embeddings, zero at columns that a field lacks."""
        return gradient if self.column_mask is None else gradient * self.column_mask

    def rows(self, batch: Batch) -> Tensor:
        """Table rows (B, P), int64, of every position of every row."""
        ids = torch.cat([batch.categorical, batch.sequence.flatten(1)], dim=1)
        return ids.to(torch.int64) + self.offsets

    def gather(self, rows: Tensor) -> Tensor:
        """Embeddings (B, P, width) of table rows (B, P)."""
        return nn.functional.embedding(rows, self.weight)


def vocabulary_names(features: FeatureSpec) -> tuple[str, ...]:
    """Whose ids each block of table rows holds, in the order of `block_sizes`."""
    return features.categorical + tuple(s.name for s in features.sequence if s.target is None)


def block_sizes(features: FeatureSpec) -> tuple[int, ...]:
    """Table rows of each vocabulary: categorical fields, then sequences with ids of their own."""
    own = tuple(s.num_ids for s in features.sequence if s.target is None)
    return features.num_ids + own


def initial_table(features: FeatureSpec, embedding_size: int, linear: bool, seed: int) -> Tensor:
    """First values (rows, embedding_size + linear) of a table, float32.

    Embeddings are normal with SD `EMBEDDING_SD`, padding rows and first-order weights zero. A row
    depends on `seed`, its vocabulary's name, its id and `embedding_size` alone: the draws of a
    vocabulary are a stream of its own, in the order of ids, so that a longer table begins with the
    shorter one.
    """
    sizes = block_sizes(features)
    table = np.zeros((sum(sizes), embedding_size + int(linear)), dtype=np.float32)
    start = 0
    for name, num_rows in zip(vocabulary_names(features), sizes, strict=True):
        name_key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
        draws = np.random.Generator(np.random.SFC64([seed % 2**64, name_key]))
        block = draws.standard_normal((num_rows, embedding_size), dtype=np.float32)
        block *= EMBEDDING_SD
        block[PADDING_ID] = 0.0
        table[start : start + num_rows, :embedding_size] = block
        start += num_rows
    return torch.from_numpy(table)


class Recommender(nn.Module):
    """Base of all click models. A subclass builds its layers and defines `head`.

    `linear = True` in a subclass adds a first-order weight per id as the last column of the table.
    """

    linear: bool = False
    reads_table: bool = True
    """Whether its embeddings are those of `table`."""
    output: nn.Linear
    """The last linear layer (H to 1): all weights beside the table that the logit is linear in."""

    def __init__(self, features: FeatureSpec, embedding_size: int) -> None:
        super().__init__()
        self.features = features
        self.table = EmbeddingTable(features, embedding_size, linear=self.linear)

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        """Logits and last hidden vectors from gathered embeddings (B, P, width)."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B,)."""
        return self.head(self.table.gather(self.table.rows(batch)), batch).logit
