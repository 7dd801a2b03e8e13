"""Each architecture's formula for one row, written with loops and the weights of a model."""

from __future__ import annotations

import itertools
from collections.abc import Callable
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


def autoint(row: Row) -> Tensor:
    fields, size = row.fields, row.model.table.embedding_size
    for layer in row.model.attention:
        new = []
        for e in fields:
            heads = []
            for h in range(layer.num_heads):
                part = slice(h * size, (h + 1) * size)
                query = layer.query.weight[part] @ e
                scores = [query @ (layer.key.weight[part] @ other) for other in fields]
                share = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
                values = [layer.value.weight[part] @ other for other in fields]
                heads.append(sum(a * v for a, v in zip(share, values, strict=True)))
            new.append((torch.cat(heads) + layer.residual.weight @ e).clamp_min(0.0))
        fields = new
    return row.output(torch.cat(fields))


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


def din(row: Row) -> Tensor:
    attention, num_categorical = iter(row.model.attention), len(row.model.features.categorical)
    for s, (target, items) in enumerate(row.histories):
        if target is None:
            continue
        first, _, last = next(attention).mlp
        interest = torch.zeros_like(target)
        for item in items:
            pair = torch.cat([item, item - target, item * target, target])
            hidden = (first.weight @ pair + first.bias).clamp_min(0.0)
            interest = interest + (last.weight[0] @ hidden + last.bias[0]) * item
        row.fields[num_categorical + s] = interest
    return dnn(row)


FORMULAS: dict[str, Callable[[Row], Tensor]] = {
    f.__name__: f
    for f in (lr, fm, dnn, wide_deep, deepfm, nfm, dcn, dcnv2, pnn, autoint, finalmlp, din)
}
