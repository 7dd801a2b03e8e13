"""Encoded rows with a known click probability, made without files."""

from __future__ import annotations

import torch

from diet_ray.data.batch import Batch, FeatureSpec, SequenceSpec

FEATURES = FeatureSpec(
    categorical=("user", "item"),
    num_ids=(40, 30),
    numeric=("price",),
    sequence=(SequenceSpec(name="history", max_length=4, target="item", num_ids=30),),
)


def random_rows(num_rows: int, seed: int) -> Batch:
    """Clicks follow the price, and whether the item's id is even."""
    generator = torch.Generator().manual_seed(seed)

    def ids(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(2, high, shape, generator=generator, dtype=torch.int32)

    categorical = torch.stack([ids(40, num_rows), ids(30, num_rows)], 1)
    numeric = torch.randn(num_rows, 1, generator=generator)
    logit = 1.5 * numeric[:, 0] + 2.0 * (categorical[:, 1] % 2 == 0) - 1.0
    label = (torch.rand(num_rows, generator=generator) < torch.sigmoid(logit)).float()
    return Batch(categorical, numeric, ids(30, num_rows, 1, 4), label)
