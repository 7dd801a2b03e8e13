"""Formulas of models whose fields attend to each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.models.reference.row import Row, dense, softmax


def heads_of(layer: Any, size: int) -> list[slice]:
    """Which part of its matrices each head has."""
    return [slice(h * size, (h + 1) * size) for h in range(layer.num_heads)]


def attended(row: Row) -> list[Tensor]:
    """Fields behind AutoInt's layers."""
    fields, size = row.fields, row.model.table.embedding_size
    for layer in row.model.attention:
        new = []
        for e in fields:
            heads = []
            for part in heads_of(layer, size):
                query = layer.query.weight[part] @ e
                share = softmax([query @ (layer.key.weight[part] @ other) for other in fields])
                values = [layer.value.weight[part] @ other for other in fields]
                heads.append(sum(a * v for a, v in zip(share, values, strict=True)))
            new.append((torch.cat(heads) + layer.residual.weight @ e).clamp_min(0.0))
        fields = new
    return fields


def autoint(row: Row) -> Tensor:
    return row.output(torch.cat(attended(row)))


def autoint_plus(row: Row) -> Tensor:
    deep = dense(row.model.mlp, row.flat)
    return row.output(torch.cat([*attended(row), deep]))


def destine(row: Row) -> Tensor:
    fields, size = row.fields, row.model.table.embedding_size
    for layer in row.model.attention:
        heads: list[list[Tensor]] = [[] for _ in fields]
        for h, part in enumerate(heads_of(layer, size)):
            queries = [layer.query.weight[part] @ e for e in fields]
            keys = [layer.key.weight[part] @ e for e in fields]
            mean_query, mean_key = sum(queries) / len(fields), sum(keys) / len(fields)
            unary = softmax([layer.unary.weight[h] @ e for e in fields])
            for i, query in enumerate(queries):
                pairwise = softmax([(query - mean_query) @ (key - mean_key) for key in keys])
                terms = zip(pairwise, unary, fields, strict=True)
                heads[i].append(sum((p + u) * (layer.value.weight[part] @ e) for p, u, e in terms))
        fields = [
            torch.cat(own) + layer.residual.weight @ e for own, e in zip(heads, fields, strict=True)
        ]
    return row.output(torch.cat(fields))
