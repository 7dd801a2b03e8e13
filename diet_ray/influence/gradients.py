"""Per-row gradients of the log loss in closed form, from one forward and one activation backward.

For row i with logit z, probability σ(z) and target y, the loss softplus(z) − y·z has ∂loss/∂z =
r = σ(z) − y, the residual. Rows don't see each other, so every per-row gradient is r times a
gradient of z. Three reaches, each at its price:

- `last_layer`: ∂z/∂(weights, bias) = (h, 1), from a forward pass alone;
- `embedding`: also table row k's Σ ∂z/∂e_p over the positions p that gathered it. An id repeated in
  a history, or shared between a history and its target field, is summed before any norm is taken.
  Rows of `PADDING_ID` are constants, so they get nothing;
- `all`: every parameter of the model, as factors (`diet_ray.influence.factors`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from diet_ray.data.batch import PADDING_ID, Batch
from diet_ray.influence.capture import captured
from diet_ray.influence.coverage import coverage_of, differentiate
from diet_ray.influence.factors import Factor, Gathered, square_sum
from diet_ray.influence.fallback import row_by_row
from diet_ray.models.base import TABLE_WEIGHT, EmbeddingTable, Recommender
from diet_ray.recording import recording

Reach = Literal["last_layer", "embedding", "all"]


@dataclass(frozen=True, kw_only=True)
class RowGradients:
    """Factors of B rows' gradients."""

    residual: Tensor
    """(B,): σ(logit) − target."""
    logit: Tensor
    """(B,)"""
    hidden: Tensor
    """(B, H)"""
    rows: Tensor
    """(B, P), int64: table rows that the positions gathered."""
    embedding: Tensor | None
    """(B, P, width): ∂logit/∂gathered, zero at padding; None if out of reach."""
    factors: Mapping[str, Factor] = field(default_factory=dict)
    """∂logit/∂parameter by name, the table's included, with a reach of `all`; parameters that the
    logit doesn't depend on are missing."""

    @property
    def last_layer(self) -> Tensor:
        """(B, H + 1): gradient of the loss at the last layer's weights, then its bias."""
        ones = torch.ones_like(self.residual)
        return self.residual[:, None] * torch.cat([self.hidden, ones[:, None]], dim=1)


def row_gradients(
    model: Recommender,
    batch: Batch,
    target: Tensor,
    reach: Reach = "embedding",
    precision: torch.dtype | None = None,
) -> RowGradients:
    """Gradient factors of every row of `batch` at `target` (B,), which may lie outside [0, 1].

    `precision` (bfloat16 or float16) is that of matrix products on the way forth and back, None the
    weights' own. Dropout and the like are off whatever the model's mode. A reach of `last_layer`
    needs no backward pass. With a reach of `all`, warns of parameters that no closed form covers,
    and raises `ConfigError` if the model reads its table by another way than gathering.
    """
    training = model.training
    model.eval()
    device = model.table.weight.device.type
    try:
        with torch.autocast(device, precision, enabled=precision is not None):
            return _row_gradients(model, batch, target, reach)
    finally:
        model.train(training)


def _row_gradients(model: Recommender, batch: Batch, target: Tensor, reach: Reach) -> RowGradients:
    rows = model.table.rows(batch)
    with torch.no_grad():
        gathered = model.table.gather(rows)
        if reach == "last_layer":
            logit, hidden = model.head(gathered, batch)
    gradient = None
    factors: dict[str, Factor] = {}
    if reach != "last_layer":
        coverage = coverage_of(model, batch) if reach == "all" else None
        layers = coverage.layers if coverage is not None else ()
        with torch.enable_grad(), captured(layers) as capture:
            logit, hidden = model.head(gathered.requires_grad_(), batch)
            gradient, *_ = differentiate(logit, [gathered, *capture.leaves])
        padding = is_padding(model.table, rows)
        # On a GPU asking costs more than doing.
        if padding.is_cuda or recording() or bool(padding.any()):
            # Not in place: where a model sums its embeddings, one number is the gradient at all.
            gradient = gradient.masked_fill(padding.unsqueeze(2), 0.0)
        gradient = model.table.masked(gradient)
        if coverage is not None:
            factors = capture.factors(coverage.names, len(batch))
            if coverage.fallback:
                factors |= row_by_row(model, batch, gathered.detach(), coverage.fallback)
            factors[TABLE_WEIGHT] = table_factor(model.table, rows, gradient)
    logit = logit.detach().to(target.dtype)
    return RowGradients(
        residual=torch.sigmoid(logit) - target,
        logit=logit,
        hidden=hidden.detach(),
        rows=rows,
        embedding=gradient,
        factors=factors,
    )


def table_factor(table: EmbeddingTable, rows: Tensor, gradient: Tensor) -> Gathered:
    """The table's part: rows (B, P), gradient (B, P, width), zero at padding."""
    meeting = meeting_positions(table)
    if meeting:
        rows = rows.masked_fill(is_padding(table, rows), -1)
    return Gathered(rows, gradient, len(table.weight), meeting)


def is_padding(table: EmbeddingTable, rows: Tensor) -> Tensor:
    """(B, P) bool: positions that gathered a padding row."""
    return rows == table.offsets + PADDING_ID


def last_layer_squared_norm(gradients: RowGradients) -> Tensor:
    """(B,): r²(‖h‖² + 1)."""
    return gradients.residual.square() * (square_sum(gradients.hidden) + 1)


def embedding_squared_norm(table: EmbeddingTable, gradients: RowGradients) -> Tensor:
    """(B,): r² Σ over distinct table rows of ‖Σ ∂z/∂e over the positions that gathered it‖²."""
    factor = gradients.factors.get(TABLE_WEIGHT)
    if factor is None:
        assert gradients.embedding is not None
        factor = table_factor(table, gradients.rows, gradients.embedding)
    return gradients.residual.square() * factor.squared_norm()


def squared_norm(gradients: RowGradients) -> Tensor:
    """(B,): r² Σ over all parameters of ‖∂z/∂W‖²."""
    assert gradients.factors, "the gradients reach all parameters"
    total = torch.stack([f.squared_norm() for f in gradients.factors.values()]).sum(0)
    return gradients.residual.square() * total


def meeting_positions(table: EmbeddingTable) -> tuple[int, ...]:
    """Positions that read the same vocabulary as another, and so may repeat its id."""
    offsets = table.offsets.tolist()
    num_positions = Counter(offsets)
    return tuple(p for p, offset in enumerate(offsets) if num_positions[offset] > 1)


def inner_products(x: RowGradients, y: RowGradients) -> Tensor:
    """(N, M): ⟨g_i, g_j⟩ over all parameters, of N rows `x` and M rows `y` of one model."""
    assert x.factors, "the gradients reach all parameters"
    assert y.factors, "the gradients reach all parameters"
    shared = x.factors.keys() & y.factors.keys()
    product = torch.stack([x.factors[n].products(y.factors[n]) for n in sorted(shared)]).sum(0)
    return x.residual[:, None] * y.residual[None, :] * product
