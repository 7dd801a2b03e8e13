"""How large a candidate's model is, without allocating its embedding table."""

from __future__ import annotations

from dataclasses import dataclass, replace

from diet_ray.data.batch import NUM_RESERVED_IDS, FeatureSpec
from diet_ray.models.base import block_sizes
from diet_ray.models.catalogue import Candidate, build, fields_of, num_parameters


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    dense: int
    """Trainable numbers beside the embedding table."""
    table: int
    """Those of the embedding table, padding rows included."""


def model_size(candidate: Candidate, features: FeatureSpec) -> ModelSize:
    """Counts on a model for the same fields with next to no ids; only the table depends on them."""
    features = fields_of(candidate, features).features
    few = NUM_RESERVED_IDS + 1
    small = replace(
        features,
        num_ids=(few,) * len(features.num_ids),
        sequence=tuple(replace(s, num_ids=few) for s in features.sequence),
    )
    model = build(replace(candidate, without_fields=()), small, seed=0)
    num_rows, width = model.table.weight.shape
    return ModelSize(
        dense=num_parameters(model) - num_rows * width,
        table=sum(block_sizes(features)) * width,
    )
