"""Influence of a row: the size of its loss gradient under the proxy.

With r = σ(z) − y the row's residual and h its last hidden vector:

- `error`: |r|. EL2N (Paul et al., "Deep Learning on a Data Diet", arXiv 2107.07075) is √2 |r| for
  two classes; the order is the same.
- `last_layer`: |r|·sqrt(‖h‖² + 1), the exact gradient norm at the last layer; the closed form that
  makes TracIn (Pruthi et al., arXiv 2002.08484) affordable on the last layer.
- `embedding`: |r|·‖∂z/∂(embedding table)‖, repeated ids of a row summed first.
- `gradient`: the norm of both parts together, sqrt(last_layer² + embedding²): GraNd (Paul et al.)
  over the parameters that hold most of a click model, without the hidden layers between.
- `full`: GraNd over all parameters.

`error` and `last_layer` need a forward pass only; the others a pass back to the embeddings as well.
"""

from __future__ import annotations

from torch import Tensor

from diet_ray.influence.config import Score
from diet_ray.influence.gradients import (
    Reach,
    RowGradients,
    embedding_squared_norm,
    last_layer_squared_norm,
    squared_norm,
)
from diet_ray.models.base import EmbeddingTable

_REACH: dict[Score, Reach] = {
    "error": "last_layer",
    "last_layer": "last_layer",
    "embedding": "embedding",
    "gradient": "embedding",
    "full": "all",
}


def reach_of(score: Score) -> Reach:
    """How far gradients must reach for the score."""
    return _REACH[score]


def influence(table: EmbeddingTable, gradients: RowGradients, score: Score) -> Tensor:
    """Scores (B,), at least 0."""
    if score == "error":
        return gradients.residual.abs()
    if score == "last_layer":
        return last_layer_squared_norm(gradients).sqrt()
    if score == "full":
        return squared_norm(gradients).sqrt()
    embedding = embedding_squared_norm(table, gradients)
    if score == "embedding":
        return embedding.sqrt()
    return (last_layer_squared_norm(gradients) + embedding).sqrt()
