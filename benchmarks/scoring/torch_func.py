"""Per-row gradient norms the way that `torch.func` is documented to give them: vmap over grad.

Every row's gradient exists in full, the table's included, before its norm is taken.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import binary_cross_entropy_with_logits

from diet_ray.data.batch import Batch
from diet_ray.models.base import Recommender


class RowLogit(nn.Module):
    """The logit of one row as a function of its fields."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, *fields: Tensor) -> Tensor:
        return self.model(Batch(*(field.unsqueeze(0) for field in fields)))[0]


def row_loss(module: RowLogit, parameters: dict[str, Tensor], *fields: Tensor) -> Tensor:
    label = fields[-1]
    return binary_cross_entropy_with_logits(functional_call(module, parameters, fields), label)


def torch_func_norms(model: Recommender) -> Callable[[Batch], Tensor]:
    """A function from rows to (B,): norms of the loss's gradient over all parameters."""
    module = RowLogit(model.eval())
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def loss(parameters: dict[str, Tensor], *fields: Tensor) -> Tensor:
        return row_loss(module, parameters, *fields)

    per_row = vmap(grad(loss), in_dims=(None, 0, 0, 0, 0))

    def norms(batch: Batch) -> Tensor:
        # The fused kernels of attention have no batching rule.
        with sdpa_kernel(SDPBackend.MATH):
            gradients = per_row(parameters, *batch.tensors)
        each = [torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients.values()]
        return torch.linalg.vector_norm(torch.stack(each), dim=0)

    return norms
