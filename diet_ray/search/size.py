"""How large a candidate's model is, without allocating its embedding table."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from diet_ray.data.batch import NUM_RESERVED_IDS, FeatureSpec
from diet_ray.models.base import block_sizes, vocabulary_names
from diet_ray.models.catalogue import (
    Candidate,
    build,
    fields_of,
    narrow_sizes,
    num_parameters,
    recommender_class,
)


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    dense: int
    """Trainable numbers beside the embedding table; those of a module's own embeddings, too."""
    table: int
    """Those of the embedding table, padding rows included, padding columns not."""
    table_cells: int
    """What the table takes in memory: padding columns included."""


def size_if_built(candidate: Candidate, features: FeatureSpec) -> ModelSize | None:
    """`model_size`; None if the model can't be built, which its run will tell."""
    try:
        return model_size(candidate, features)
    except Exception:
        return None


def model_size(candidate: Candidate, features: FeatureSpec) -> ModelSize:
    """Counts on a model for the same fields with next to no ids, as only the table depends on them;
    of a module with embeddings of its own, on one for all ids that takes no memory."""
    features = fields_of(candidate, features).features
    sizes = narrow_sizes(candidate, features)
    few = NUM_RESERVED_IDS + 1
    small = replace(
        features,
        num_ids=(few,) * len(features.num_ids),
        sequence=tuple(replace(s, num_ids=few) for s in features.sequence),
    )
    whole = replace(candidate, without_fields=(), field_embedding_sizes={})
    if recommender_class(candidate).reads_table:
        model = build(whole, small, seed=0)
    else:
        with torch.device("meta"):
            model = build(whole, features, seed=0)
    num_few, width = model.table.weight.shape
    num_rows = dict(zip(vocabulary_names(features), block_sizes(features), strict=True))
    num_cells = sum(num_rows.values()) * width
    padding = sum(num_rows[n] * (model.table.embedding_size - size) for n, size in sizes.items())
    return ModelSize(
        dense=num_parameters(model) - num_few * width,
        table=num_cells - padding,
        table_cells=num_cells,
    )
