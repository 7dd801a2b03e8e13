"""One row in a model's terms, and what many formulas have in common."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from diet_ray.data.batch import Batch
from diet_ray.models.base import Recommender


class Row:
    """Row i of a batch, in a model's terms."""

    def __init__(self, model: Recommender, batch: Batch, i: int) -> None:
        self.model: Any = model
        self.numeric = batch.numeric[i].double()
        table, spec, width = model.table.weight, model.features, model.table.embedding_size
        starts = dict(zip(names(model), model.table.block_starts, strict=True))
        looked_up = [
            table[starts[name] + int(batch.categorical[i, c])]
            for c, name in enumerate(spec.categorical)
        ]
        self.histories: list[tuple[Tensor | None, list[Tensor]]] = []
        for s, field in enumerate(spec.sequence):
            start = starts[field.target or field.name]
            items = [table[start + int(j)] for j in batch.sequence[i, s] if j != 0]
            target = None
            if field.target is not None:
                target = looked_up[spec.categorical.index(field.target)][:width]
            self.histories.append((target, [item[:width] for item in items]))
            looked_up.append(sum(items, torch.zeros_like(table[0])) / max(1, len(items)))
        self.fields = [e[:width] for e in looked_up]
        self.first_order = sum((e[width] for e in looked_up if len(e) > width), torch.zeros(()))
        if spec.numeric and width:
            vectors = self.model.numeric.vectors
            self.fields += [x * v for x, v in zip(self.numeric, vectors, strict=True)]

    @property
    def flat(self) -> Tensor:
        return torch.cat(self.fields)

    def output(self, hidden: Tensor) -> Tensor:
        return self.model.output.weight[0] @ hidden + self.model.output.bias[0]


def names(model: Recommender) -> list[str]:
    own = [s.name for s in model.features.sequence if s.target is None]
    return [*model.features.categorical, *own]


def dense(mlp: nn.Module, x: Tensor) -> Tensor:
    for layer in mlp.modules():
        if isinstance(layer, nn.Linear):
            x = (layer.weight @ x + layer.bias).clamp_min(0.0)
    return x


def pair_sum(row: Row) -> Tensor:
    return sum((a @ b for a, b in itertools.combinations(row.fields, 2)), torch.zeros(()))


def softmax(scores: list[Tensor]) -> list[Tensor]:
    total = sum((s.exp() for s in scores), torch.zeros(()))
    return [s.exp() / total for s in scores]


def sigmoid(x: Tensor) -> Tensor:
    return 1.0 / (1.0 + (-x).exp())


def layer_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    variance = (x - x.mean()).square().mean()
    normal = (x - x.mean()) / (variance + norm.eps).sqrt()
    return normal if norm.weight is None else normal * norm.weight + norm.bias


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(layer, nn.Linear)
    mapped = layer.weight @ x
    return mapped if layer.bias is None else mapped + layer.bias
