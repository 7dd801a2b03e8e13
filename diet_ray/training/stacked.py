"""Training a stack of models on the same mini-batches, each with its own rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from diet_ray.data.batch import Batch
from diet_ray.models.stack import ModelStack, NotStackable
from diet_ray.recording import record
from diet_ray.training.config import OptimizerConfig
from diet_ray.training.drift import NO_FACTORS, DriftMatch, StepFactors
from diet_ray.training.loop import click_loss
from diet_ray.training.optimizer import fused_adam, sum_by_row, table_adam
from diet_ray.training.reach import Reach, bounded, reach_of

TOLERANCE = 1e-3
"""Of the first step's logits and gradients, relative to the largest of them."""


class StackedGradients(NamedTuple):
    """On a mini-batch of B rows, before a step."""

    logits: Tensor
    """(K, B)"""
    loss: Tensor
    """(K,), the weighted mean."""
    residual_squares: Tensor
    """(K, 2): means over rows of (σ(logit) − target)² and (σ(logit) − label)²."""
    dense: Tensor
    """(K, D)"""
    gathered: Tensor
    """(B, P, K, w): at the embeddings."""


class StackedTraining:
    """Adam with decoupled weight decay on every model of a stack, as `ClickOptimizer` does it.

    optimizers: one a model; they may differ in learning rate and weight decay alone, else this
    raises `NotStackable`.
    """

    def __init__(self, stack: ModelStack, optimizers: Sequence[OptimizerConfig]) -> None:
        self._stack = stack
        self.set_optimizers(optimizers)
        dense, table = stack.dense_weight, stack.table_weight
        self._moments = torch.zeros_like(dense), torch.zeros_like(dense)
        self._dense = list(zip(dense, *self._moments, strict=True))
        """Of each model: weights, first and second moments, (D,)."""
        self._table_second = torch.zeros_like(table)
        self._last = torch.zeros(len(table), dtype=torch.int64, device=table.device)
        self._padding_rows = torch.tensor(stack.table.block_starts, device=table.device)
        self._num_steps = torch.zeros((), dtype=torch.float32, device=table.device)
        self._recorded: dict[int, Callable[..., Any]] = {}
        """By size of the mini-batch: one at most."""

    def set_optimizers(self, optimizers: Sequence[OptimizerConfig]) -> None:
        """From the next step on. Raises `NotStackable`."""
        shared = {(o.beta1, o.beta2, o.epsilon) for o in optimizers}
        if len(shared) > 1:
            raise NotStackable("optimisers differ in more than learning rate and weight decay")
        self._optimizers = tuple(optimizers)
        decays = [o.weight_decay for o in optimizers]
        table = self._stack.table_weight
        self._decays = table.new_tensor(decays).unsqueeze(1) if any(decays) else None

    def state_dict(self) -> dict[str, Tensor]:
        """Moments and the step count; not copied."""
        first, second = self._moments
        return {
            "first": first,
            "second": second,
            "table_second": self._table_second,
            "step": self._num_steps,
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copies a state in."""
        for name, value in self.state_dict().items():
            value.copy_(state[name])

    @torch.no_grad()
    def gradients(
        self, rows: Tensor, batch: Batch, target: Tensor, weight: Tensor
    ) -> StackedGradients:
        """Of every model's mean loss on a mini-batch.

        rows: table rows (B, P); target, weight: (B,), the same for all models.
        """
        stack = self._stack
        masks = stack.draw_masks(batch)
        share = weight / weight.sum()
        tensors = [
            *stack.dense.values(),
            stack.gather(rows),
            *masks.values(),
            *batch.tensors,
            target,
            share,
        ]
        if len(batch) in self._recorded:
            return StackedGradients(*self._recorded[len(batch)](*tensors))
        function = self._function(tuple(masks))
        if self._recorded:
            # A run's last mini-batch, as a rule, which is shorter: not worth recording.
            return StackedGradients(*function(*tensors))
        recorded = record(function, tensors)
        found = StackedGradients(*recorded(*tensors))
        self._check(found, tensors[len(stack.names)], masks, batch, target, weight)
        self._recorded[len(batch)] = recorded
        return found

    def _function(self, mask_names: tuple[str, ...]) -> Callable[..., tuple[Tensor, ...]]:
        """`gradients` of one flat list of tensors, the weights as shares of their sum."""
        stack, num_dense = self._stack, len(self._stack.names)

        def step(*tensors: Tensor) -> tuple[Tensor, ...]:
            rest = tensors[num_dense + 1 :]
            masks = dict(zip(mask_names, rest, strict=False))
            *fields, target, share = rest[len(mask_names) :]
            batch = Batch(*fields)

            leaves = [t.detach().requires_grad_() for t in tensors[: num_dense + 1]]
            with torch.enable_grad():
                own = dict(zip(stack.names, leaves, strict=False))
                differentiable = stack.logits(own, leaves[-1], batch, masks)
            logits = differentiable.detach()
            loss = (softplus(logits) - target * logits) @ share
            residual = torch.sigmoid(logits) - target
            # Models don't see each other: each one's part is its own gradient.
            *dense_grads, gathered_grad = torch.autograd.grad(
                differentiable,
                leaves,
                residual * share,
                allow_unused=True,
                materialize_grads=True,
            )
            squares = [residual.square(), (residual + (target - batch.label)).square()]
            # Spelled out: a weight () per model has no further dimension to flatten.
            flat = [g.reshape(stack.num_models, -1) for g in dense_grads]
            return (
                logits,
                loss,
                torch.stack(squares, dim=1).mean(dim=2),
                torch.cat(flat, dim=1),
                gathered_grad,
            )

        return step

    def _check(
        self,
        found: StackedGradients,
        gathered: Tensor,
        masks: Mapping[str, Tensor],
        batch: Batch,
        target: Tensor,
        weight: Tensor,
    ) -> None:
        """Compares the last model's part with what it computes by itself."""
        stack, last = self._stack, self._stack.num_models - 1
        dense = {n: w[last].clone().requires_grad_() for n, w in stack.dense.items()}
        own = gathered[:, :, last].clone().requires_grad_()
        with torch.enable_grad():
            logit = stack.logits_of(last, dense, own, batch, masks)
            loss = click_loss(logit, target, weight)
            gradients = torch.autograd.grad(
                loss, [*dense.values(), own], allow_unused=True, materialize_grads=True
            )
        alone = [logit, torch.cat([g.flatten() for g in gradients[:-1]]), gradients[-1]]
        stacked = [found.logits[last], found.dense[last], found.gathered[:, :, last]]
        for one, other in zip(alone, stacked, strict=True):
            scale = float(one.abs().max()) if one.numel() else 0.0
            if not torch.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE * scale):
                raise NotStackable("side by side, models compute something else than alone")

    @torch.no_grad()
    def step(
        self,
        rows: Tensor,
        batch: Batch,
        target: Tensor,
        weight: Tensor,
        drifts: Sequence[DriftMatch] | None = None,
    ) -> Tensor:
        """One update of every model, as long as its `drifts` say; returns their mean losses (K,)
        before it."""
        # What is recorded has no use for autograd, whose bookkeeping costs a tenth of a small step.
        with torch.inference_mode(len(batch) in self._recorded):
            found = self.gradients(rows, batch, target, weight)
            factors = [NO_FACTORS] * self._stack.num_models
            if drifts is not None:
                squares = found.residual_squares.tolist()
                factors = [d.observe(*own) for d, own in zip(drifts, squares, strict=True)]
            self._num_steps += 1.0
            self._step_dense(found.dense, factors)
            reach = None
            if drifts is not None and any(d.bounded for d in drifts):
                reach = reach_of(found.logits.t(), target, weight / weight.sum())
            self._step_table(rows, found.gathered, factors, reach)
            return found.loss

    def _step_dense(self, gradient: Tensor, factors: Sequence[StepFactors]) -> None:
        # One by one: a model's weights stay in the cache meanwhile.
        for own, grad, config, factor in zip(
            self._dense, gradient.unbind(), self._optimizers, factors, strict=True
        ):
            weight, first, second = own
            fused_adam(
                [weight],
                [grad],
                [first],
                [second],
                self._num_steps,
                config,
                rate=config.learning_rate * factor.dense,
                decay=config.weight_decay,
            )

    def _step_table(
        self,
        rows: Tensor,
        gradient: Tensor,
        factors: Sequence[StepFactors],
        reach: Reach | None,
    ) -> None:
        stack, table = self._stack, self._stack.table_weight
        gradient = stack.masked(gradient)
        flat = gradient.flatten(2).flatten(0, 1)
        touched, grad, place = sum_by_row(self._last, rows.flatten(), flat, self._padding_rows)
        weight = table.index_select(0, touched)
        second = self._table_second.index_select(0, touched)
        # Of all models at once, as they share the rows: at rate 1, from zero, it's the direction.
        direction = torch.zeros_like(grad)
        config = self._optimizers[0]
        table_adam(direction, grad, second, self._num_steps, config, rate=1.0, decay=0.0)
        pairs = list(zip(self._optimizers, factors, strict=True))
        rates = weight.new_tensor([o.learning_rate * f.table for o, f in pairs]).unsqueeze(1)
        by_model = weight.view(-1, stack.num_models, stack.width)
        if self._decays is not None:
            by_model.mul_(1.0 - rates * self._decays)
        move = direction.view_as(by_model)
        if reach is not None:
            move.mul_(rates)
            move.masked_fill_(torch.isin(touched, self._padding_rows).view(-1, 1, 1), 0.0)
            by_model.add_(bounded(move, place, gradient, reach))
        else:
            by_model.addcmul_(move, rates)
        table.index_copy_(0, touched, weight)
        self._table_second.index_copy_(0, touched, second)
        table.index_fill_(0, self._padding_rows, 0.0)
