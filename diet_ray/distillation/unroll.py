"""Inner training that can be differentiated: a few Adam steps of a small model, kept as a graph.

Only the table rows that the inner and outer rows touch take part (a *compact* table), so that the
graph's size follows the number of slots, not the vocabulary. The window is truncated at random
(RaT-BPTT, Feng et al., "Embarrassingly Simple Dataset Distillation", ICLR 2024,
arXiv 2311.07025): steps before it run without a graph, and their Adam state carries in.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from diet_ray.data.batch import Batch
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.training.config import OptimizerConfig
from diet_ray.training.loop import click_loss

TABLE = "table.weight"


class _Head(torch.nn.Module):
    """A model seen as the function (gathered, batch) -> HeadOutput, for `functional_call`."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        return self.model.head(gathered, batch)


@dataclass
class InnerState:
    """Parameters by name (the compact table under `TABLE`), Adam moments and the step count."""

    parameters: dict[str, Tensor]
    first: dict[str, Tensor]
    second: dict[str, Tensor]
    num_steps: int

    def detached(self) -> InnerState:
        def cut(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {k: v.detach() for k, v in tensors.items()}

        return InnerState(cut(self.parameters), cut(self.first), cut(self.second), self.num_steps)


class CompactModel:
    """A model restricted to the table rows of some batches, as functions of its parameters.

    `rows` are the sorted distinct table rows; `compact(batch)` maps a batch's positions (B, P) to
    indices into them.
    """

    def __init__(self, model: Recommender, batches: list[Batch]) -> None:
        self._model = model
        self._head = _Head(model)
        self.rows = torch.unique(torch.cat([model.table.rows(b).flatten() for b in batches]))

    def compact(self, batch: Batch) -> Tensor:
        """Indices (B, P) into `rows`; every row of the batch must be covered."""
        return torch.searchsorted(self.rows, self._model.table.rows(batch))

    def initial(self) -> InnerState:
        """Copies of the model's parameters, with fresh Adam moments."""
        parameters = {
            name: p.detach().clone() for name, p in self._model.named_parameters() if name != TABLE
        }
        parameters[TABLE] = self._model.table.weight.detach()[self.rows]
        zeros = {k: torch.zeros_like(v) for k, v in parameters.items()}
        return InnerState(parameters, zeros, dict(zeros), 0)

    def logits(self, state: InnerState, positions: Tensor, batch: Batch) -> Tensor:
        """Logits (B,) under the state's parameters."""
        gathered = self._model.table.masked(state.parameters[TABLE][positions])
        dense = {f"model.{k}": v for k, v in state.parameters.items() if k != TABLE}
        output: HeadOutput = functional_call(self._head, dense, (gathered, batch))
        return output.logit


def adam_step(
    state: InnerState, gradients: dict[str, Tensor], optimizer: OptimizerConfig
) -> InnerState:
    """One differentiable Adam step. ε stands inside the root, which keeps it smooth at zero."""
    step = state.num_steps + 1
    parameters, first, second = {}, {}, {}
    bias_1 = 1.0 - optimizer.beta1**step
    bias_2 = 1.0 - optimizer.beta2**step
    for name, parameter in state.parameters.items():
        g = gradients[name]
        m = optimizer.beta1 * state.first[name] + (1.0 - optimizer.beta1) * g
        v = optimizer.beta2 * state.second[name] + (1.0 - optimizer.beta2) * g * g
        root = torch.sqrt(v / bias_2 + optimizer.epsilon**2)
        parameters[name] = parameter - optimizer.learning_rate * (m / bias_1) / root
        first[name], second[name] = m, v
    return InnerState(parameters, first, second, step)


def inner_step(
    model: CompactModel,
    state: InnerState,
    positions: Tensor,
    batch: Batch,
    target: Tensor,
    weight: Tensor,
    optimizer: OptimizerConfig,
    *,
    differentiable: bool,
) -> InnerState:
    """One training step on weighted slots; the result is a function of target, weight and batch
    contents when `differentiable`, else cut from the graph."""
    parameters = state.parameters
    if not differentiable:
        parameters = {k: v.detach().requires_grad_() for k, v in parameters.items()}
    elif not any(v.requires_grad for v in parameters.values()):
        parameters = {k: v.requires_grad_() for k, v in parameters.items()}
    state = InnerState(parameters, state.first, state.second, state.num_steps)
    loss = click_loss(model.logits(state, positions, batch), target, weight)
    gradients = torch.autograd.grad(
        loss, list(parameters.values()), create_graph=differentiable, allow_unused=True
    )
    by_name = {
        k: torch.zeros_like(p) if g is None else g
        for (k, p), g in zip(parameters.items(), gradients, strict=True)
    }
    result = adam_step(state, by_name, optimizer)
    return result if differentiable else result.detached()
