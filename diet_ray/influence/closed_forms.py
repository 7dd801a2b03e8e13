"""Closed forms: how a layer's parameters get their per-row gradient from what it was given and
what came back.

Each is a function (layer, inputs, gradient at the layer's output, B) to {parameter name: factor},
registered for the layer's class. Rows don't see each other, so the first dimension of inputs and
outputs is B rows, or B·k places, a row's places next to each other. A layer of your own joins by

    @closed_form(MyLayer)
    def _my_layer(layer, inputs, gradient, num_rows): ...

A class that inherits another's `forward` inherits its closed form. What has none is differentiated
row by row, see `diet_ray.influence.fallback`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from diet_ray.influence.factors import Entries, Factor, Gathered, Outer
from diet_ray.models.histories import Positions
from diet_ray.models.interactions import CrossLayer, FieldGate, FieldShares, MaskedCrossLayer
from diet_ray.models.layers import NumericFields, Output

ClosedForm = Callable[[Any, tuple[Any, ...], Tensor, int], Mapping[str, Factor]]
Function = TypeVar("Function", bound=ClosedForm)

_CLOSED_FORMS: dict[type[nn.Module], ClosedForm] = {}


def closed_form(*classes: type[nn.Module]) -> Callable[[Function], Function]:
    """Registers a closed form for layers of `classes`."""

    def register(function: Function) -> Function:
        _CLOSED_FORMS.update(dict.fromkeys(classes, function))
        return function

    return register


def closed_form_of(layer: nn.Module) -> ClosedForm | None:
    """That of the layer's class, or of the nearest base whose `forward` it has."""
    for base in type(layer).__mro__:
        if base in _CLOSED_FORMS:
            inherits = type(layer).forward is base.forward
            return _CLOSED_FORMS[base] if inherits else None
    return None


def by_row(x: Tensor, num_rows: int) -> Tensor:
    """(B·k, …, n) or (B, …, n) as (B, T, n)."""
    # Spelled out: of a layer without inputs nothing could be inferred.
    num_places = math.prod(x.shape[:-1]) // num_rows
    return x.reshape(num_rows, num_places, x.shape[-1])


def _summed(gradient: Tensor, num_rows: int) -> Entries:
    """Of a parameter that is added at every place."""
    places = by_row(gradient, num_rows)
    return Entries(places[:, 0] if places.shape[1] == 1 else places.sum(1))


@closed_form(nn.Linear, Output)
def _linear(layer: nn.Linear, inputs: Any, gradient: Tensor, num_rows: int) -> dict[str, Factor]:
    # An `Output` drops its last dimension, of size one.
    gradient = gradient.reshape(*inputs[0].shape[:-1], layer.out_features)
    outputs, places = by_row(gradient, num_rows), by_row(inputs[0].detach(), num_rows)
    factors: dict[str, Factor] = {"weight": Outer(outputs, places)}
    if layer.bias is not None:
        factors["bias"] = _summed(gradient, num_rows)
    return factors


@closed_form(nn.Embedding)
def _embedding(
    layer: nn.Embedding, inputs: Any, gradient: Tensor, num_rows: int
) -> dict[str, Factor]:
    rows, gradient = inputs[0].reshape(num_rows, -1).to(torch.int64), by_row(gradient, num_rows)
    if layer.padding_idx is not None:
        padding = rows == layer.padding_idx
        rows = rows.masked_fill(padding, -1)
        gradient = gradient.masked_fill(padding.unsqueeze(2), 0.0)
    meeting = tuple(range(rows.shape[1])) if rows.shape[1] > 1 else ()
    return {"weight": Gathered(rows, gradient, layer.num_embeddings, meeting)}


@closed_form(nn.LayerNorm)
def _layer_norm(
    layer: nn.LayerNorm, inputs: Any, gradient: Tensor, num_rows: int
) -> dict[str, Factor]:
    dims = tuple(range(-len(layer.normalized_shape), 0))
    x = inputs[0].detach()
    centred = x - x.mean(dims, keepdim=True)
    normal = centred * torch.rsqrt(centred.square().mean(dims, keepdim=True) + layer.eps)
    return _scale_and_shift(layer, normal, gradient, num_rows, len(dims))


@closed_form(nn.RMSNorm)
def _rms_norm(layer: nn.RMSNorm, inputs: Any, gradient: Tensor, num_rows: int) -> dict[str, Factor]:
    dims = tuple(range(-len(layer.normalized_shape), 0))
    x = inputs[0].detach()
    eps = torch.finfo(x.dtype).eps if layer.eps is None else layer.eps
    normal = x * torch.rsqrt(x.square().mean(dims, keepdim=True) + eps)
    return _scale_and_shift(layer, normal, gradient, num_rows, len(dims))


@closed_form(nn.BatchNorm1d)
def _batch_norm(
    layer: nn.BatchNorm1d, inputs: Any, gradient: Tensor, num_rows: int
) -> dict[str, Factor]:
    # As scores are taken in evaluation mode, statistics are constants and rows stay apart.
    assert layer.running_mean is not None
    assert layer.running_var is not None
    x = inputs[0].detach()
    if x.dim() == 3:
        x, gradient = x.transpose(1, 2), gradient.transpose(1, 2)
    normal = (x - layer.running_mean) * torch.rsqrt(layer.running_var + layer.eps)
    return _scale_and_shift(layer, normal, gradient, num_rows, 1)


def _scale_and_shift(
    layer: Any, normal: Tensor, gradient: Tensor, num_rows: int, num_dims: int
) -> dict[str, Factor]:
    """Of weight · normal + bias over the last `num_dims` dimensions."""
    factors: dict[str, Factor] = {}
    if layer.weight is not None:
        factors["weight"] = _over_places(normal * gradient, num_rows, num_dims)
    if getattr(layer, "bias", None) is not None:
        factors["bias"] = _over_places(gradient, num_rows, num_dims)
    return factors


def _over_places(gradient: Tensor, num_rows: int, num_dims: int) -> Entries:
    shape = gradient.shape[gradient.dim() - num_dims :]
    return Entries(gradient.reshape(num_rows, -1, *shape).sum(1))


@closed_form(nn.PReLU)
def _prelu(layer: nn.PReLU, inputs: Any, gradient: Tensor, num_rows: int) -> dict[str, Factor]:
    slope = gradient * inputs[0].detach().clamp_max(0.0)
    if layer.num_parameters == 1:
        return {"weight": Entries(slope.reshape(num_rows, -1).sum(1, keepdim=True))}
    if slope.dim() > 2:
        slope = slope.movedim(1, -1)
    return {"weight": Entries(by_row(slope, num_rows).sum(1))}


@closed_form(CrossLayer)
def _cross_layer(
    layer: CrossLayer, inputs: Any, gradient: Tensor, num_rows: int
) -> dict[str, Factor]:
    return {"bias": _summed(gradient, num_rows)}


@closed_form(MaskedCrossLayer)
def _masked_cross_layer(
    layer: MaskedCrossLayer, inputs: Any, gradient: Tensor, num_rows: int
) -> dict[str, Factor]:
    return {"bias": Entries(gradient * inputs[0].detach())}


@closed_form(FieldGate)
def _field_gate(
    layer: FieldGate, inputs: Any, gradient: Tensor, num_rows: int
) -> dict[str, Factor]:
    gate = torch.sigmoid(layer.choice.detach())
    product = gradient * inputs[0].detach()
    return {"choice": Entries(product.mul_(2.0 * gate * (1.0 - gate)))}


@closed_form(FieldShares)
def _field_shares(
    layer: FieldShares, inputs: Any, gradient: Tensor, num_rows: int
) -> dict[str, Factor]:
    share = torch.softmax(layer.choice.detach(), dim=0)
    at_share = len(share) * (gradient * inputs[0].detach()).sum(2)
    return {"choice": Entries(share * (at_share - (at_share @ share).unsqueeze(1)))}


@closed_form(Positions)
def _positions(layer: Positions, inputs: Any, gradient: Tensor, num_rows: int) -> dict[str, Factor]:
    # Not `Gathered`: a row reads each position about once, so that all of them are no larger.
    positions = inputs[0].unsqueeze(2).expand_as(gradient)
    full = gradient.new_zeros(num_rows, *layer.weight.shape)
    return {"weight": Entries(full.scatter_add_(1, positions, gradient))}


@closed_form(NumericFields)
def _numeric_fields(
    layer: NumericFields, inputs: Any, gradient: Tensor, num_rows: int
) -> dict[str, Factor]:
    if layer.vectors is None:
        return {}
    numeric = inputs[1].numeric.to(gradient.dtype)
    return {"vectors": Entries(numeric.unsqueeze(2) * gradient[:, -numeric.shape[1] :])}
