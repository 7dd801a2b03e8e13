"""Influence of a row: the size of its loss gradient under the proxy.

With r = σ(z) − y the row's residual and h its last hidden vector:

- `error`: |r|. EL2N (Paul et al., "Deep Learning on a Data Diet", arXiv 2107.07075) is √2 |r| for
  two classes; the order is the same.
- `last_layer`: |r|·sqrt(‖h‖² + 1), the exact gradient norm at the last layer; the closed form that
  makes TracIn (Pruthi et al., arXiv 2002.08484) affordable on the last layer.
- `embedding`: |r|·‖∂z/∂(embedding table)‖, repeated ids of a row summed first.
- `gradient`: the norm of both parts together, sqrt(last_layer² + embedding²): GraNd (Paul et al.)
  over the parameters that hold most of a click model, without the hidden layers between.

`error` and `last_layer` need a forward pass only.
"""

from __future__ import annotations

from torch import Tensor

from diet_ray.influence.config import Score
from diet_ray.influence.gradients import (
    RowGradients,
    embedding_squared_norm,
    last_layer_squared_norm,
)
from diet_ray.models.base import EmbeddingTable


def needs_embedding(score: Score) -> bool:
    """Whether the score needs the activation backward pass."""
    return score in ("embedding", "gradient")


def influence(table: EmbeddingTable, gradients: RowGradients, score: Score) -> Tensor:
    """Scores (B,), at least 0."""
    if score == "error":
        return gradients.residual.abs()
    if score == "last_layer":
        return last_layer_squared_norm(gradients).sqrt()
    embedding = embedding_squared_norm(table, gradients)
    if score == "embedding":
        return embedding.sqrt()
    return (last_layer_squared_norm(gradients) + embedding).sqrt()
