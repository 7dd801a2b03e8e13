"""Formulas of models that cross fields by products and gates."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from tests.models.reference.row import (
    Row,
    dense,
    layer_norm,
    linear,
    pair_sum,
    sigmoid,
    softmax,
)


def lr(row: Row) -> Tensor:
    return row.first_order + row.output(row.numeric)


def fm(row: Row) -> Tensor:
    return lr(row) + pair_sum(row)


def dnn(row: Row) -> Tensor:
    return row.output(dense(row.model.mlp, row.flat))


def wide_deep(row: Row) -> Tensor:
    deep = dense(row.model.mlp, row.flat)
    return row.first_order + row.output(torch.cat([deep, row.numeric]))


def deepfm(row: Row) -> Tensor:
    return wide_deep(row) + pair_sum(row)


def nfm(row: Row) -> Tensor:
    pairs = [a * b for a, b in itertools.combinations(row.fields, 2)]
    deep = dense(row.model.mlp, sum(pairs, torch.zeros_like(row.fields[0])))
    return row.first_order + row.output(torch.cat([deep, row.numeric]))


def dcn(row: Row) -> Tensor:
    x = row.flat
    for layer in row.model.cross:
        x = row.flat * (layer.weight.weight[0] @ x) + layer.bias + x
    return row.output(torch.cat([x, dense(row.model.mlp, row.flat)]))


def dcnv2(row: Row) -> Tensor:
    x = row.flat
    for layer in row.model.cross:
        x = row.flat * (layer.linear.weight @ x + layer.linear.bias) + x
    return row.output(torch.cat([x, dense(row.model.mlp, row.flat)]))


def pnn(row: Row) -> Tensor:
    products = [(a @ b).reshape(1) for a, b in itertools.combinations(row.fields, 2)]
    return row.output(dense(row.model.mlp, torch.cat([row.flat, *products])))


def finalmlp(row: Row) -> Tensor:
    hidden = []
    for gate, mlp in row.model.streams:
        hidden.append(dense(mlp, 2.0 / (1.0 + (-gate.choice).exp()) * row.flat))
    fused, start = torch.zeros(()), 0
    for head in row.model.fusion.heads:
        part = slice(start, start + len(head.weight))
        fused = fused + hidden[0][part] @ head.weight @ hidden[1][part]
        start = part.stop
    assert start == len(hidden[0])
    return row.output(torch.cat(hidden)) + fused


def fwfm(row: Row) -> Tensor:
    products = [(a @ b).reshape(1) for a, b in itertools.combinations(row.fields, 2)]
    return row.output(torch.cat([row.flat, *products]))


def bilinear(pairs: Any, fields: list[Tensor]) -> list[Tensor]:
    """(M_ij e_i) ∘ e_j; the matrices of one i stand below each other."""
    size, products = len(fields[0]), []
    for i, j in itertools.combinations(range(len(fields)), 2):
        begin = (j - i - 1) * size
        matrix = pairs.matrices[i].weight[begin : begin + size]
        products.append((matrix @ fields[i]) * fields[j])
    return products


def fmfm(row: Row) -> Tensor:
    pairs = bilinear(row.model.pairs, row.fields)
    return lr(row) + sum((p.sum() for p in pairs), torch.zeros(()))


def afm(row: Row) -> Tensor:
    first, _, last = row.model.attention
    pairs = [a * b for a, b in itertools.combinations(row.fields, 2)]
    share = softmax([linear(last, linear(first, p).clamp_min(0.0)) for p in pairs])
    pooled = sum((a * p for a, p in zip(share, pairs, strict=True)), 0.0 * row.fields[0])
    return row.first_order + row.output(torch.cat([pooled, row.numeric]))


def xdeepfm(row: Row) -> Tensor:
    x, pooled = row.fields, []
    for layer in row.model.cin.maps:
        maps = []
        for weight in layer.weight:
            pairs = zip(weight, itertools.product(x, row.fields), strict=True)
            maps.append(sum(w * a * b for w, (a, b) in pairs))
        pooled += [m.sum() for m in maps]
        x = maps
    deep = dense(row.model.mlp, row.flat)
    return row.first_order + row.output(torch.cat([deep, torch.stack(pooled), row.numeric]))


def fibinet(row: Row) -> Tensor:
    if len(row.fields) == 1:
        return lr(row)
    first, _, last, _ = row.model.squeeze_excitation.excitation
    means = torch.stack([e.mean() for e in row.fields])
    weight = sigmoid(linear(last, linear(first, means).clamp_min(0.0)))
    weighted = [a * e for a, e in zip(weight, row.fields, strict=True)]
    plain = bilinear(row.model.pairs, row.fields)
    pairs = [*plain, *bilinear(row.model.weighted_pairs, weighted)]
    deep = dense(row.model.mlp, torch.cat(pairs))
    return row.first_order + row.output(torch.cat([deep, row.numeric]))


def masknet(row: Row) -> Tensor:
    h = torch.cat([layer_norm(row.model.norm, e) for e in row.fields])
    for block in row.model.blocks:
        inner, _, outer = block.mask
        mask = linear(outer, linear(inner, row.flat).clamp_min(0.0))
        weight, norm = block.hidden[0], block.hidden[1]
        h = layer_norm(norm, linear(weight, mask * h)).clamp_min(0.0)
    return row.output(h)


def final(row: Row) -> Tensor:
    def stack(layers: Any, x: Tensor) -> Tensor:
        for layer in layers:
            mapped = linear(layer.linear, x)
            num_sums = (len(mapped) + 1) // 2
            products = [mapped[i] * mapped[num_sums + i] for i in range(len(mapped) // 2)]
            x = torch.stack([*mapped[:num_sums], *products])
        return x

    gate = row.model.gate.linear
    gated = [
        e * (sum(w * other for w, other in zip(weight, row.fields, strict=True)) + bias)
        for e, weight, bias in zip(row.fields, gate.weight, gate.bias, strict=True)
    ]
    first = stack(row.model.gated_stack, torch.cat([*row.fields, *gated]))
    return row.output(torch.cat([first, stack(row.model.stack, row.flat)]))


def dcnv3(row: Row) -> Tensor:
    def crossed(layer: Any, x_0: Tensor, x: Tensor) -> Tensor:
        c = linear(layer.weight, x)
        both = torch.cat([c, c * layer_norm(layer.norm, c).clamp_min(0.0)])
        return x_0 * (both[: len(x)] + layer.bias) + x

    x = y = row.flat
    for layer in row.model.exponential:
        x = crossed(layer, x, x)
    for layer in row.model.linear_cross:
        y = crossed(layer, row.flat, y)
    return row.output(torch.cat([x, y]))


def edcn(row: Row) -> Tensor:
    def regulated(shares: Any, x: Tensor) -> Tensor:
        weight = torch.stack(softmax(list(shares.choice))) * len(row.fields)
        return weight.repeat_interleave(len(row.fields[0])) * x

    shared, x_0 = row.flat, None
    for level in row.model.levels:
        x, h = regulated(level.cross_shares, shared), regulated(level.deep_shares, shared)
        x_0 = x if x_0 is None else x_0
        x = x_0 * (level.cross.weight.weight[0] @ x) + level.cross.bias + x
        h = dense(level.deep, h)
        shared = x * h
    return row.output(torch.cat([x, h, shared]))


def gdcn(row: Row) -> Tensor:
    x = row.flat
    for layer in row.model.cross:
        x = row.flat * linear(layer.linear, x) * sigmoid(layer.gate.weight @ x) + x
    return row.output(torch.cat([x, dense(row.model.mlp, row.flat)]))
