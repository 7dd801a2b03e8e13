"""A small model with every kind of field, in float64, and rows that provoke its corner cases."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diet_ray.data.batch import Batch, FeatureSpec, SequenceSpec
from diet_ray.models.base import HeadOutput, Recommender

FEATURES = FeatureSpec(
    categorical=("user", "item"),
    num_ids=(7, 9),
    numeric=("age",),
    sequence=(
        SequenceSpec(name="watched", max_length=4, target="item", num_ids=9),
        SequenceSpec(name="tags", max_length=3, target=None, num_ids=6),
    ),
)


class TinyModel(Recommender):
    """Two layers on everything, the first-order weights, and a product of target and history."""

    linear = True

    def __init__(self, features: FeatureSpec) -> None:
        super().__init__(features, embedding_size=3)
        num_positions = len(self.table.offsets)
        self.first = nn.Linear(3 * num_positions + len(features.numeric), 5)
        self.output = nn.Linear(5, 1)

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        embedding, linear = gathered[..., :-1], gathered[..., -1]
        hidden = torch.tanh(self.first(torch.cat([embedding.flatten(1), batch.numeric], dim=1)))
        product = (embedding[:, 1] * embedding[:, 2:].sum(1)).sum(1)
        return HeadOutput(self.output(hidden)[:, 0] + linear.sum(1) + product, hidden)


def random_batch(num_rows: int, seed: int, features: FeatureSpec = FEATURES) -> Batch:
    """Rows with short histories, repeated items, and targets that their history holds."""
    g = torch.Generator().manual_seed(seed)
    length = features.max_sequence_length
    ids = [torch.randint(1, n, (num_rows,), generator=g) for n in features.num_ids]
    sequences = []
    for s in features.sequence:
        items = torch.randint(1, s.num_ids, (num_rows, length), generator=g)
        present = torch.randint(0, s.max_length + 1, (num_rows, 1), generator=g)
        sequences.append(items * (torch.arange(length) < present))
    return Batch(
        torch.stack(ids, 1).int(),
        torch.randn(num_rows, len(features.numeric), generator=g, dtype=torch.float64),
        torch.stack(sequences, 1).int(),
        torch.randint(0, 2, (num_rows,), generator=g).double(),
    )


def autograd_gradients(model: Recommender, batch: Batch, target: Tensor) -> Tensor:
    """(B, parameters): per-row gradients of softplus(z) − target·z at last layer and table.

    The table's part comes last, flat, with nothing for padding rows.
    """
    parameters = [model.output.weight, model.output.bias, model.table.weight]
    rows = []
    for i in range(len(batch)):
        logit = model(batch[i : i + 1])[0]
        loss = nn.functional.softplus(logit) - target[i] * logit
        weight, bias, table = torch.autograd.grad(loss, parameters)
        table[list(model.table.block_starts)] = 0.0
        rows.append(torch.cat([weight.flatten(), bias, table.flatten()]))
    return torch.stack(rows)
