"""A block of rows as one direction in weight space, and the optimiser's view of that space.

The mean gradient ḡ of a validation block is a single gradient, so it is formed by ordinary
back-propagation and every row's inner product with it is a sum over factors: exact over all
parameters. Under Adam a row's gradient moves the weights by about D∘g with D = 1 / (√v̂ + ε), v̂ the
bias-corrected mean squared gradient, so that the influence of a row on the block is ⟨D∘g, ḡ⟩ and on
itself ⟨D∘g, g⟩ (TracIn's inner products with the preconditioner that Xia et al., "LESS", arXiv
2402.04333, put there).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import softplus

from diet_ray.data.batch import Batch
from diet_ray.influence.capture import differentiable
from diet_ray.influence.gradients import RowGradients
from diet_ray.models.base import TABLE_WEIGHT, Recommender

Direction = Mapping[str, Tensor]
"""One tensor a parameter, of its shape."""

_RELATIVE_EPSILON = 1e-2
_BATCH_SIZE = 4_096


def mean_gradient(model: Recommender, rows: Batch) -> Direction:
    """Of the log loss over `rows`, at least one, at their labels."""
    training = model.training
    parameters = dict(model.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    model.eval()
    try:
        with differentiable(model), torch.enable_grad():
            for i in range(0, len(rows), _BATCH_SIZE):
                part = rows[i : i + _BATCH_SIZE]
                logit = model(part)
                loss = (softplus(logit) - part.label.to(logit.dtype) * logit).sum() / len(rows)
                found = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
                for name, gradient in zip(parameters, found, strict=True):
                    total[name] += gradient
    finally:
        model.train(training)
    # Padding rows are constants.
    total[TABLE_WEIGHT][list(model.table.block_starts)] = 0.0
    return total


def preconditioner(second_moments: Mapping[str, Tensor]) -> Direction:
    """D by parameter. ε is 1 % of the root mean square of √v̂ over the parameter's weights that
    were ever moved, so that an id seen once doesn't outweigh all others; a weight that never moved
    gets D = 0."""
    found = {}
    for name, v in second_moments.items():
        moved = v > 0
        mean = v[moved].mean() if bool(moved.any()) else v.new_ones(())
        found[name] = torch.where(moved, 1.0 / (v.sqrt() + _RELATIVE_EPSILON * mean.sqrt()), 0.0)
    return found


def along(gradients: RowGradients, direction: Direction) -> Tensor:
    """(B,): ⟨g_i, direction⟩ over all parameters."""
    assert gradients.factors, "the gradients reach all parameters"
    parts = [f.along(direction[name]) for name, f in gradients.factors.items()]
    return gradients.residual * torch.stack(parts).sum(0)


def weighted_squared_norm(gradients: RowGradients, weight: Direction) -> Tensor:
    """(B,): ⟨weight∘g_i, g_i⟩ over all parameters; weights are at least 0."""
    assert gradients.factors, "the gradients reach all parameters"
    parts = [f.weighted_squared_norm(weight[name]) for name, f in gradients.factors.items()]
    return gradients.residual.square() * torch.stack(parts).sum(0)


def scaled(direction: Direction, weight: Direction) -> Direction:
    """weight ∘ direction."""
    return {name: value * weight[name] for name, value in direction.items()}
