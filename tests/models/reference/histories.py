"""Formulas of models that read behaviour histories with a target."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import diet_ray.models.sim as search
from tests.models.reference.attention import heads_of
from tests.models.reference.row import Row, dense, layer_norm, linear, sigmoid, softmax

Reader = Callable[[Any, list[Tensor], Tensor], list[Tensor]]
"""Layers, items (oldest first) and target to vectors."""


def interests(row: Row, readers: Any, read: Reader) -> Tensor:
    """All fields in a row, with what is read of a history in the history's place."""
    remaining, num_categorical = iter(readers), len(row.model.features.categorical)
    vectors = list(row.fields[:num_categorical])
    for s, (target, items) in enumerate(row.histories):
        if target is None:
            vectors.append(row.fields[num_categorical + s])
        else:
            vectors += read(next(remaining), items, target)
    return torch.cat([*vectors, *row.fields[num_categorical + len(row.histories) :]])


def deep(row: Row, x: Tensor) -> Tensor:
    return row.output(dense(row.model.mlp, x))


def din(row: Row) -> Tensor:
    def read(attention: Any, items: list[Tensor], target: Tensor) -> list[Tensor]:
        first, _, last = attention.mlp
        interest = torch.zeros_like(target)
        for item in items:
            pair = torch.cat([item, item - target, item * target, target])
            hidden = (first.weight @ pair + first.bias).clamp_min(0.0)
            interest = interest + (last.weight[0] @ hidden + last.bias[0]) * item
        return [interest]

    return deep(row, interests(row, row.model.attention, read))


def dien(row: Row) -> Tensor:
    def states(unit: Any, inputs: list[Tensor], step_weights: list[Any]) -> list[Tensor]:
        size = unit.recurrent.weight.shape[1]
        h, found = torch.zeros(size, dtype=torch.float64), []
        for x, weight in zip(inputs, step_weights, strict=True):
            parts = zip(
                unit.input.weight.split(size),
                unit.input.bias.split(size),
                unit.recurrent.weight.split(size),
                strict=True,
            )
            (w_u, b_u, u_u), (w_r, b_r, u_r), (w_n, b_n, u_n) = parts
            update = sigmoid(w_u @ x + b_u + u_u @ h) * weight
            reset = sigmoid(w_r @ x + b_r + u_r @ h)
            new = torch.tanh(w_n @ x + b_n + reset * (u_n @ h))
            h = (1.0 - update) * h + update * new
            found.append(h)
        return found

    def read(reader: Any, items: list[Tensor], target: Tensor) -> list[Tensor]:
        extracted = states(reader.extraction, items, [1.0] * len(items))
        share = softmax([h @ linear(reader.query, target) for h in extracted])
        evolved = states(reader.evolution, extracted, share)
        return [evolved[-1] if evolved else torch.zeros_like(target)]

    return deep(row, interests(row, row.model.interests, read))


def sim(row: Row) -> Tensor:
    def read(reader: Any, items: list[Tensor], target: Tensor) -> list[Tensor]:
        nothing = torch.zeros_like(target)
        query = linear(reader.search_query, target)
        relevance = [linear(reader.search_key, item) @ query for item in items]
        searched = sum((r * item for r, item in zip(relevance, items, strict=True)), nothing)
        best = sorted(range(len(items)), key=lambda i: -relevance[i].item())[: search.NUM_FOUND]
        vectors = [searched]
        for part in heads_of(reader, len(target)):
            key, query = reader.key.weight[part], reader.query.weight[part] @ target
            share = softmax([(key @ items[i]) @ query for i in best])
            found = zip(share, best, strict=True)
            vectors.append(sum((a * items[i] for a, i in found), nothing))
        return vectors

    return deep(row, interests(row, row.model.interests, read))


def transformed(layer: Any, x: list[Tensor], activation: Callable[[Tensor], Tensor]) -> list[Any]:
    new = []
    for place in x:
        heads = []
        for part in heads_of(layer.attention, len(place)):
            query, key, value = (
                getattr(layer.attention, name).weight[part] for name in ("query", "key", "value")
            )
            scores = [(query @ place) @ (key @ other) / math.sqrt(len(place)) for other in x]
            terms = zip(softmax(scores), x, strict=True)
            heads.append(sum(a * (value @ other) for a, other in terms))
        attended = linear(layer.attention.output, torch.cat(heads))
        y = layer_norm(layer.attention_norm, place + attended)
        inner, _, outer = layer.feedforward
        inside = activation(linear(inner, y))
        new.append(layer_norm(layer.feedforward_norm, y + linear(outer, inside)))
    return new


def bst(row: Row) -> Tensor:
    def leaky_relu(x: Tensor) -> Tensor:
        return x.clamp_min(0.0) + 0.01 * x.clamp_max(0.0)

    def read(reader: Any, items: list[Tensor], target: Tensor) -> list[Tensor]:
        position, places = reader.positions.weight, [*items, target]
        x = [torch.cat([e, position[len(items) - i]]) for i, e in enumerate(places)]
        for layer in reader.layers:
            x = transformed(layer, x, leaky_relu)
        return [x[-1]]

    return deep(row, interests(row, row.model.interests, read))


def hstu(row: Row) -> Tensor:
    def silu(x: Tensor) -> Tensor:
        return x * sigmoid(x)

    def read(reader: Any, items: list[Tensor], target: Tensor) -> list[Tensor]:
        x, size = [*items, target], len(target)
        for layer in reader.layers:
            width = layer.num_heads * size
            parts = [silu(linear(layer.input, layer_norm(layer.norm, e))).split(width) for e in x]
            new = []
            for i, e in enumerate(x):
                gate, _, query, _ = parts[i]
                heads = []
                for part in heads_of(layer, size):
                    head = torch.zeros_like(target)
                    for j in range(i + 1):
                        _, value, _, key = parts[j]
                        score = query[part] @ key[part] + layer.bias.weight[i - j, 0]
                        head = head + silu(score) / (i + 1) * value[part]
                    heads.append(head)
                normal = layer_norm(layer.heads_norm, torch.cat(heads))
                new.append(e + linear(layer.output, normal * gate))
            x = new
        return [x[-1]]

    return deep(row, interests(row, row.model.interests, read))


def transact(row: Row) -> Tensor:
    def relu(x: Tensor) -> Tensor:
        return x.clamp_min(0.0)

    def read(reader: Any, items: list[Tensor], target: Tensor) -> list[Tensor]:
        x = [torch.cat([item, target]) for item in items]
        for layer in reader.layers:
            x = transformed(layer, x, relu)
        nothing = torch.zeros(2 * len(target), dtype=torch.float64)
        latest = x[-1] if x else nothing
        largest = torch.stack(x).max(dim=0).values if x else nothing
        return [latest, linear(reader.largest, largest)]

    x_0 = x = interests(row, row.model.interests, read)
    for layer in row.model.cross:
        x = x_0 * linear(layer.linear, x) + x
    return row.output(torch.cat([x, dense(row.model.mlp, x_0)]))
