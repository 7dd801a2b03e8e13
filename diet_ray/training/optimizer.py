"""Adam with decoupled weight decay: all at once on dense weights, row by row on the table.

A step costs what its mini-batch touches, never the size of the table:

* The head's gradient is taken at the gathered embeddings (B, P, width), so no gradient as large as
  the table exists. The gradients of a table row's occurrences are summed by way of its last one:
  `last[row] = position` for all positions, then `last[row]` is one and the same position for all of
  them. That needs no sort.
* Second moments of untouched rows stay as they are ("lazy" Adam), and a touched row is updated as
  Adam would at the *global* step count, bias correction included. So an id that appears late moves
  by 1 / √(1 − β2) learning rates, as under dense Adam; counting steps per row would make that one
  learning rate, and cost a count per row.
* The table has no momentum. Dense Adam moves a row by a gradient's first share, 1 − β1, in the step
  that touches it, and by the rest in the steps after, whether they touch it or not; all of it comes
  to what a step without momentum does at once. A lazy update with momentum makes the first share
  alone, a tenth: on MovieLens it lost 0.008 AUC and more against dense Adam, with every model;
  without momentum there is nothing to lose, and a third less to keep.
* Weight decay, too, reaches touched rows alone; padding rows stay zero.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from diet_ray.models.base import TABLE_WEIGHT, Recommender
from diet_ray.models.growth import copy_blocks
from diet_ray.training.config import OptimizerConfig
from diet_ray.training.drift import NO_FACTORS, StepFactors
from diet_ray.training.reach import Reach, bounded


class ClickOptimizer:
    """Updates one model in place from `.grad` of its dense weights and the gathered gradient."""

    def __init__(self, model: Recommender, config: OptimizerConfig) -> None:
        self.config = config
        self.model = model
        table = model.table.weight
        self._dense = {
            name: p
            for name, p in model.named_parameters()
            if p is not table and p.requires_grad and p.numel()
        }
        self._moments = {
            name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in self._dense.items()
        }
        self._table_second = torch.zeros_like(table.data)
        self._last = torch.zeros(len(table), dtype=torch.int64, device=table.device)
        self._padding_rows = torch.tensor(
            model.table.block_starts, dtype=torch.int64, device=table.device
        )
        self._step = torch.zeros((), dtype=torch.float32, device=table.device)

    @torch.no_grad()
    def step(
        self,
        rows: Tensor,
        gathered_grad: Tensor,
        factors: StepFactors = NO_FACTORS,
        reach: Reach | None = None,
    ) -> None:
        """One update, `factors` times as long, within `reach`. Consumes the dense gradients.

        rows: table rows (B, P) of the mini-batch; gathered_grad: gradient (B, P, width) of the
        mini-batch's mean loss at the embeddings gathered from them.
        """
        self._step += 1.0
        self._step_table(rows.flatten(), gathered_grad, factors.table, reach)
        self._step_dense(factors.dense)

    def _step_table(
        self, rows: Tensor, gradient: Tensor, factor: float, reach: Reach | None
    ) -> None:
        table = self.model.table.weight
        # Where a field has no columns, weights and moments that begin at zero stay there.
        gradient = self.model.table.masked(gradient)
        flat = gradient.flatten(0, 1)
        touched, grad, place = sum_by_row(self._last, rows, flat, self._padding_rows)
        weight = table.index_select(0, touched)
        second = self._table_second.index_select(0, touched)
        rate, decay = self.config.learning_rate * factor, self.config.weight_decay
        if reach is None:
            table_adam(weight, grad, second, self._step, self.config, rate=rate, decay=decay)
        else:
            move = torch.zeros_like(grad)
            table_adam(move, grad, second, self._step, self.config, rate=rate, decay=0.0)
            move.masked_fill_(torch.isin(touched, self._padding_rows).unsqueeze(1), 0.0)
            move = bounded(move.unsqueeze(1), place, gradient.unsqueeze(2), reach).squeeze(1)
            weight = weight.mul_(1.0 - rate * decay).add_(move)
        # A row that stands here several times (on a GPU) is written several times the same.
        table.index_copy_(0, touched, weight)
        self._table_second.index_copy_(0, touched, second)
        table.index_fill_(0, self._padding_rows, 0.0)

    def _step_dense(self, factor: float) -> None:
        weights: list[Tensor] = []
        grads: list[Tensor] = []
        firsts: list[Tensor] = []
        seconds: list[Tensor] = []
        for name, p in self._dense.items():
            if p.grad is not None:
                weights.append(p)
                grads.append(p.grad)
                firsts.append(self._moments[name][0])
                seconds.append(self._moments[name][1])
                p.grad = None
        if weights:
            rate, decay = self.config.learning_rate * factor, self.config.weight_decay
            fused_adam(
                weights, grads, firsts, seconds, self._step, self.config, rate=rate, decay=decay
            )

    def state_dict(self) -> dict[str, Tensor]:
        """Step count, both moments of every dense weight and the table's second, by name; not
        copied."""
        state = {"step": self._step, f"{TABLE_WEIGHT}.exp_avg_sq": self._table_second}
        for name, (first, second) in self._moments.items():
            state[f"{name}.exp_avg"] = first
            state[f"{name}.exp_avg_sq"] = second
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Copies a state in. Raises ValueError if it is another model's."""
        own = self.state_dict()
        # Runs from before the table lost its momentum go on without it.
        state = {k: v for k, v in state.items() if k != f"{TABLE_WEIGHT}.exp_avg"}
        if own.keys() != state.keys():
            raise ValueError(f"optimiser state of another model: {own.keys() ^ state.keys()}")
        for name, value in own.items():
            if value.shape != state[name].shape:
                raise ValueError(
                    f"optimiser state {name} is {tuple(state[name].shape)}, "
                    f"the model needs {tuple(value.shape)}"
                )
            value.copy_(state[name])

    @torch.no_grad()
    def grow(self, model: Recommender) -> ClickOptimizer:
        """The optimiser of `model`, this one's model after `grow`; new rows' moments are zero."""
        grown = ClickOptimizer(model, self.config)
        sizes = self.model.table.block_sizes, model.table.block_sizes
        copy_blocks(self._table_second, sizes[0], grown._table_second, sizes[1])
        target = grown.state_dict()
        for name, value in self.state_dict().items():
            if not name.startswith(f"{TABLE_WEIGHT}."):
                target[name].copy_(value)
        return grown


class SummedRows(NamedTuple):
    """What a mini-batch's N positions ask of the table."""

    rows: Tensor
    """(U,): distinct table rows. On a GPU (N,), all with repetitions: how many are distinct isn't
    known without waiting for the device."""
    gradient: Tensor
    """(U, width): summed over the positions of a row."""
    place: Tensor
    """(N,): where in `rows` a position's row stands."""


def sum_by_row(last: Tensor, rows: Tensor, grad: Tensor, padding_rows: Tensor) -> SummedRows:
    """Sums gradients (N, width) at table rows (N,).

    last: scratch (rows of the table,), int64, of any content; padding_rows: rows whose sums nobody
    reads.
    """
    position = torch.arange(len(rows), device=rows.device)
    last.index_copy_(0, rows, position)
    where = last.index_select(0, rows)
    if rows.is_cuda:
        # A row's are summed one after the other: padding's would take longer than all the rest.
        padding = torch.isin(rows, padding_rows)
        where = torch.where(padding, position, where)
        grad = grad.masked_fill(padding.unsqueeze(1), 0.0)
        # This sum has a fixed order on a GPU, `index_add_` hasn't.
        total = torch.zeros_like(grad).index_put_((where,), grad, accumulate=True)
        return SummedRows(rows, total.index_select(0, where), where)
    distinct = (where == position).nonzero().squeeze(1)
    touched = rows.index_select(0, distinct)
    last.index_copy_(0, touched, position[: len(touched)])
    place = last.index_select(0, rows)
    total = grad.new_zeros(len(touched), grad.shape[1]).index_add_(0, place, grad)
    return SummedRows(touched, total, place)


def fused_adam(
    weights: list[Tensor],
    grads: list[Tensor],
    firsts: list[Tensor],
    seconds: list[Tensor],
    step: Tensor,
    config: OptimizerConfig,
    *,
    rate: float,
    decay: float,
    beta1: float | None = None,
) -> None:
    """One step of Adam, the `step`-th, on weights and moments in place; `rate`, `decay` and, if it
    is given, `beta1` stand for the configured ones."""
    # torch.optim.AdamW(fused=True) is this kernel, for parameters that stay the same tensors.
    torch._fused_adamw_(
        weights,
        grads,
        firsts,
        seconds,
        [],
        [step] * len(weights),
        lr=rate,
        beta1=config.beta1 if beta1 is None else beta1,
        beta2=config.beta2,
        weight_decay=decay,
        eps=config.epsilon,
        amsgrad=False,
        maximize=False,
    )


def table_adam(
    weight: Tensor,
    grad: Tensor,
    second: Tensor,
    step: Tensor,
    config: OptimizerConfig,
    *,
    rate: float,
    decay: float,
) -> None:
    """The same for table rows: without momentum."""
    fused_adam(
        [weight],
        [grad],
        [torch.zeros_like(grad)],
        [second],
        step,
        config,
        rate=rate,
        decay=decay,
        beta1=0.0,
    )
