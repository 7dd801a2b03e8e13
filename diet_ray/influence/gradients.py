"""Per-row gradients of the log loss in closed form, from one forward and one activation backward.

For row i with logit z, probability σ(z) and target y, the loss softplus(z) − y·z has ∂loss/∂z =
r = σ(z) − y, the residual. Rows don't see each other, so every per-row gradient is r times a
gradient of z, and the two parts that a click model's parameters mostly consist of are cheap:

- last layer: ∂z/∂(weights, bias) = (h, 1), hence r·(h, 1);
- embedding: table row k gets r·Σ ∂z/∂e_p over the positions p that gathered it. An id repeated in a
  history, or shared between a history and its target field, is summed before any norm is taken.
  Rows of `PADDING_ID` are constants, so they get nothing.

Inner products never form a gradient as large as a layer: with outer products g = b⊗a, ⟨g, g'⟩ =
(a·a')(b·b') (the "ghost" product), and for a table ⟨g, g'⟩ = Σ over pairs of positions that
gathered the same row of (∂z/∂e_p)·(∂z'/∂e_q).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diet_ray.data.batch import PADDING_ID, Batch
from diet_ray.models.base import EmbeddingTable, Recommender


@dataclass(frozen=True, kw_only=True)
class RowGradients:
    """Factors of B rows' gradients."""

    residual: Tensor
    """(B,): σ(logit) − target."""
    hidden: Tensor
    """(B, H)"""
    rows: Tensor
    """(B, P), int64: table rows that the positions gathered."""
    embedding: Tensor | None
    """(B, P, width): ∂logit/∂gathered, zero at padding; None if it wasn't asked for."""

    @property
    def last_layer(self) -> Tensor:
        """(B, H + 1): gradient of the loss at the last layer's weights, then its bias."""
        ones = torch.ones_like(self.residual)
        return self.residual[:, None] * torch.cat([self.hidden, ones[:, None]], dim=1)


def row_gradients(
    model: Recommender, batch: Batch, target: Tensor, *, embedding: bool = True
) -> RowGradients:
    """Gradient factors of every row of `batch` at `target` (B,), which may lie outside [0, 1].

    Dropout and the like are off whatever the model's mode. Without `embedding` there is no
    backward pass.
    """
    training = model.training
    model.eval()
    try:
        return _row_gradients(model, batch, target, embedding)
    finally:
        model.train(training)


def _row_gradients(
    model: Recommender, batch: Batch, target: Tensor, embedding: bool
) -> RowGradients:
    rows = model.table.rows(batch)
    with torch.no_grad():
        gathered = model.table.gather(rows)
    if not embedding:
        with torch.no_grad():
            logit, hidden = model.head(gathered, batch)
        gradient = None
    else:
        with torch.enable_grad():
            logit, hidden = model.head(gathered.requires_grad_(), batch)
            (gradient,) = torch.autograd.grad(logit.sum(), gathered, materialize_grads=True)
        gradient[is_padding(model.table, rows)] = 0.0
    return RowGradients(
        residual=torch.sigmoid(logit.detach()) - target,
        hidden=hidden.detach(),
        rows=rows,
        embedding=gradient,
    )


def is_padding(table: EmbeddingTable, rows: Tensor) -> Tensor:
    """(B, P) bool: positions that gathered a padding row."""
    return rows == table.offsets + PADDING_ID


def last_layer_squared_norm(gradients: RowGradients) -> Tensor:
    """(B,): r²(‖h‖² + 1)."""
    return gradients.residual.square() * (gradients.hidden.square().sum(1) + 1)


def embedding_squared_norm(table: EmbeddingTable, gradients: RowGradients) -> Tensor:
    """(B,): r² Σ over distinct table rows of ‖Σ ∂z/∂e over the positions that gathered it‖²."""
    assert gradients.embedding is not None
    squares = gradients.embedding.square().sum(2)
    norm = squares.sum(1)
    groups = shared_positions(table)
    if groups:
        alone = torch.ones(squares.shape[1], dtype=torch.bool, device=squares.device)
        alone[torch.cat(groups)] = False
        norm = squares[:, alone].sum(1)
        padding = is_padding(table, gradients.rows)
    for columns in groups:
        # Padding never counts as a repeat; numbers below zero name no table row.
        unique = -1 - torch.arange(len(columns), device=squares.device)
        rows = torch.where(padding[:, columns], unique, gradients.rows[:, columns])
        rows, order = rows.sort(dim=1, stable=True)
        new = rows[:, 1:] != rows[:, :-1]
        repeating = (~new).any(1).nonzero()[:, 0]
        part = squares[:, columns].sum(1)
        if len(repeating) > 0:
            apart = gradients.embedding[repeating][:, columns]
            order = order[repeating, :, None].expand_as(apart)
            group = torch.nn.functional.pad(new[repeating].cumsum(1), (1, 0))
            together = torch.zeros_like(apart).scatter_add_(
                1, group[:, :, None].expand_as(apart), apart.gather(1, order)
            )
            part[repeating] = together.square().sum((1, 2))
        norm = norm + part
    return gradients.residual.square() * norm


def shared_positions(table: EmbeddingTable) -> list[Tensor]:
    """Groups of two or more positions that read one vocabulary, and so may repeat an id."""
    offsets, counts = table.offsets.unique(return_counts=True)
    return [(table.offsets == o).nonzero()[:, 0] for o in offsets[counts > 1]]


def inner_products(table: EmbeddingTable, x: RowGradients, y: RowGradients) -> Tensor:
    """(N, M): ⟨g_i, g_j⟩ of N rows `x` and M rows `y`, last layer plus embedding.

    Costs an (N, M) product for every pair of positions that read one vocabulary.
    """
    assert x.embedding is not None
    assert y.embedding is not None
    product = x.hidden @ y.hidden.T + 1
    offsets = table.offsets.tolist()
    for p, q in ((p, q) for p in range(len(offsets)) for q in range(len(offsets))):
        if offsets[p] == offsets[q]:
            same = x.rows[:, p, None] == y.rows[None, :, q]
            product += same * (x.embedding[:, p] @ y.embedding[:, q].T)
    return x.residual[:, None] * y.residual[None, :] * product
