"""Models that outlive their vocabularies: a table for more ids, all else unchanged."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from diet_ray.data.batch import FeatureSpec
from diet_ray.errors import ConfigError, DataError
from diet_ray.models.base import EmbeddingTable, Recommender, block_sizes, vocabulary_names


def grow(model: Recommender, features: FeatureSpec, seed: int) -> Recommender:
    """A copy of `model` whose table has rows for all ids of `features`.

    Known ids keep their weights. A new id gets the first value that a table built under `seed`
    gives it, so that growing in one go, in steps, or building at full size before any training are
    the same. Raises `DataError` if `features` has other fields, or fewer ids, `ConfigError` for a
    module that keeps embeddings of its own.
    """
    old = model.table
    _check(old.features, features)
    if not model.reads_table and old.block_sizes != block_sizes(features):
        raise ConfigError(
            f"{type(model).__name__}: has embeddings of its own, which can't grow to a log's new "
            "ids: train it again on the whole log, or make it a `Recommender`, whose table can"
        )
    table = EmbeddingTable(features, old.embedding_size, linear=old.linear, seed=seed)
    table.narrow(old.narrow_sizes)
    table = table.to(old.weight.device, old.weight.dtype)
    with torch.no_grad():
        copy_blocks(old.weight, old.block_sizes, table.weight, table.block_sizes)
    # Deep copies take what is in the memo, so that the old table isn't copied first.
    memo = {id(old): table, id(model.features): features}
    return copy.deepcopy(model, memo)


def copy_blocks(
    old: Tensor, old_sizes: tuple[int, ...], new: Tensor, new_sizes: tuple[int, ...]
) -> None:
    """Writes each vocabulary's rows of `old` to the first rows of its block in `new`."""
    blocks = zip(old.split(old_sizes), new.split(new_sizes), strict=True)
    for source, target in blocks:
        target[: len(source)] = source


def _check(old: FeatureSpec, new: FeatureSpec) -> None:
    def layout(features: FeatureSpec) -> tuple[object, ...]:
        sequence = tuple((s.name, s.max_length, s.target) for s in features.sequence)
        return features.categorical, features.numeric, sequence

    if layout(old) != layout(new):
        raise DataError(
            f"a model for fields {layout(old)} can't grow to fields {layout(new)}; build a new one"
        )
    sizes = zip(vocabulary_names(old), block_sizes(old), block_sizes(new), strict=True)
    for name, before, after in sizes:
        if after < before:
            raise DataError(
                f"field {name}: a model with {before} ids can't shrink to {after}; "
                "is the log older than the model?"
            )
