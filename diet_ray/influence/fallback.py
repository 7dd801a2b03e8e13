"""Per-row gradients of any parameter, by `torch.func`: exact, general, and slow.

A gradient as large as the parameter exists for every row of a block, so this is for what no closed
form covers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from diet_ray.data.batch import Batch
from diet_ray.influence.factors import Entries
from diet_ray.models.base import Recommender

_MAX_BLOCK_BYTES = 1 << 28


class _Head(torch.nn.Module):
    """The logit of one row, from its gathered embeddings, as a function of the model's weights."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, gathered: Tensor, fields: tuple[Tensor, ...]) -> Tensor:
        row = Batch(*(field.unsqueeze(0) for field in fields))
        return self.model.head(gathered.unsqueeze(0), row).logit[0]


def row_by_row(
    model: Recommender, batch: Batch, gathered: Tensor, names: Sequence[str]
) -> dict[str, Entries]:
    """∂logit/∂parameter of every row, by parameter name.

    gathered: (B, P, width), what the rows' places hold in the table.
    """
    head = _Head(model)
    parameters = {f"model.{name}": model.get_parameter(name).detach() for name in names}

    def logit(weights: dict[str, Tensor], gathered: Tensor, *fields: Tensor) -> Tensor:
        return functional_call(head, weights, (gathered, fields))

    row_bytes = sum(p.numel() * p.element_size() for p in parameters.values())
    num_rows = max(1, _MAX_BLOCK_BYTES // max(1, row_bytes))
    per_row = vmap(grad(logit), in_dims=(None, 0, 0, 0, 0, 0))
    rows = (gathered, *batch.tensors)
    # The fused kernels of attention have no batching rule.
    with sdpa_kernel(SDPBackend.MATH):
        blocks = [
            per_row(parameters, *(x[i : i + num_rows] for x in rows))
            for i in range(0, len(batch), num_rows)
        ]
    return {
        name: Entries(torch.cat([block[f"model.{name}"] for block in blocks])) for name in names
    }
