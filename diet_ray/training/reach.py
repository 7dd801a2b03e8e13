"""A bound on steps of the table: no row of a mini-batch carries its own logit past its target.

Adam moves a table row by about a learning rate, however little its mini-batch asks for. In full
training a rare id's later visits mend what the first one overdid; a distilled run has a handful of
visits, and longer steps. So there a row of the table moves by less where rows of the mini-batch
would go too far. To first order a step Δ of the table moves the logit of row i by

    δ_i = Σ_p ⟨∂z_i/∂e_p, Δ_p⟩,

p its positions, and the way to its target t is g_i = |σ(z_i) − t_i| / σ'(z_i). Row i asks for the
share s_i = min(1, g_i / |δ_i|) of the step, and a row of the table goes the mean of what its
positions ask for. Factorisation machines gain most, as all their factors step at once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

MIN_SLOPE = 1e-3
"""Least σ' that a way is measured by."""
_TINY = 1e-12


class Reach(NamedTuple):
    """Of B rows under K models."""

    pull: Tensor
    """(B, K): ∂loss/∂z."""
    way: Tensor
    """(B, K): logits from the prediction to the target, to first order; at least 0."""


def reach_of(logit: Tensor, target: Tensor, share: Tensor) -> Reach:
    """logit (B, K); target, and the rows' shares of the loss, (B,)."""
    probability = torch.sigmoid(logit)
    residual = probability - target.unsqueeze(1)
    slope = (probability * (1.0 - probability)).clamp_min(MIN_SLOPE)
    return Reach(residual * share.unsqueeze(1), residual.abs() / slope)


def bounded(move: Tensor, place: Tensor, gradient: Tensor, reach: Reach) -> Tensor:
    """The step (U, K, w) that remains of `move` (U, K, w), zero at padding rows.

    place (B·P,): the entry of `move` that each position gathered; gradient (B, P, K, w): of the
    loss, at the embeddings.
    """
    num_rows, num_positions, num_models, _ = gradient.shape
    by_position = move.index_select(0, place).view_as(gradient)
    change = (gradient * by_position).sum(dim=(1, 3))
    # The gradient holds ∂loss/∂z, by which a residual of nothing is no way to go.
    change = change.abs() / reach.pull.abs().clamp_min(_TINY)
    asked = (reach.way / change.clamp_min(_TINY)).clamp_max(1.0)
    asked = asked.unsqueeze(1).expand(num_rows, num_positions, num_models).flatten(0, 1)
    total = move.new_zeros(len(move), num_models).index_add_(0, place, asked)
    count = move.new_zeros(len(move)).index_add_(0, place, torch.ones_like(asked[:, 0]))
    return move * (total / count.clamp_min(1.0).unsqueeze(1)).unsqueeze(2)
