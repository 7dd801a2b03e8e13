"""Features with and without each kind of field, and random rows for them."""

from __future__ import annotations

import torch
from torch import Tensor

from diet_ray.data.batch import Batch, FeatureSpec, SequenceSpec
from diet_ray.models.base import Recommender
from diet_ray.models.catalogue import ARCHITECTURES, Candidate, build

WATCHED = SequenceSpec(name="watched", max_length=4, target="item", num_ids=9)
TAGS = SequenceSpec(name="tags", max_length=3, target=None, num_ids=6)
FEATURES = FeatureSpec(
    categorical=("user", "item"), num_ids=(7, 9), numeric=("age", "price"), sequence=(WATCHED, TAGS)
)


def features(*, categorical: bool = True, numeric: bool = True, sequence: bool = True):
    """`FEATURES` without the kinds of field that are turned off."""
    sequences = (WATCHED, TAGS) if categorical else (TAGS,)
    return FeatureSpec(
        categorical=FEATURES.categorical if categorical else (),
        num_ids=FEATURES.num_ids if categorical else (),
        numeric=FEATURES.numeric if numeric else (),
        sequence=sequences if sequence else (),
    )


def candidate(architecture: str, **settings: object) -> Candidate:
    values = {"embedding_size": 3, "hidden_sizes": (6, 5), "learning_rate": 0.01} | settings
    return Candidate(name=architecture, architecture=architecture, **values)  # type: ignore[arg-type]


def candidates(**settings: object) -> list[Candidate]:
    return [candidate(name, **settings) for name in ARCHITECTURES]


def large_model(architecture: str, spec: FeatureSpec = FEATURES, **settings: object) -> Recommender:
    """In float64, with weights beyond the tiny first ones, so that no part vanishes in a sum."""
    model = build(candidate(architecture, **settings), spec, seed=1).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.6)
        model.table.weight[list(model.table.block_starts)] = 0.0
    return model


def random_batch(num_rows: int, spec: FeatureSpec = FEATURES, seed: int = 0) -> Batch:
    """Histories of any length from none to `max_length`, repeated items among them."""
    g = torch.Generator().manual_seed(seed)
    length = spec.max_sequence_length
    categorical = torch.zeros(num_rows, len(spec.categorical), dtype=torch.int32)
    for c, num_ids in enumerate(spec.num_ids):
        categorical[:, c] = torch.randint(1, num_ids, (num_rows,), generator=g)
    sequence = torch.zeros(num_rows, len(spec.sequence), length, dtype=torch.int32)
    for s, field in enumerate(spec.sequence):
        items = torch.randint(1, field.num_ids, (num_rows, length), generator=g)
        num_items = torch.randint(0, field.max_length + 1, (num_rows, 1), generator=g)
        sequence[:, s] = items * (torch.arange(length) < num_items)
    numeric = torch.randn(num_rows, len(spec.numeric), generator=g)
    label = torch.randint(0, 2, (num_rows,), generator=g).float()
    return Batch(categorical, numeric, sequence, label)


def replace(batch: Batch, **fields: Tensor) -> Batch:
    values = {n: getattr(batch, n) for n in ("categorical", "numeric", "sequence", "label")}
    return Batch(**(values | fields))
