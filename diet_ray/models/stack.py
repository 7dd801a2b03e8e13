"""Models of one shape side by side, so that one operation serves all of them.

Notation beside that of `diet_ray.models.layers`: K models, D numbers in a model's dense weights,
R table rows of width w. Dense weights lie in one matrix (K, D); tables lie side by side, (R, K·w),
so that models that see the same mini-batch share its one gather.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from diet_ray.data.batch import Batch
from diet_ray.models.base import TABLE_WEIGHT, Recommender
from diet_ray.models.layers import Dropout

PREDICT_BYTES = 1 << 21
_MASK = "mask"
_COLUMN_MASK = "table.column_mask"


class NotStackable(Exception):
    """Models that have to be run one at a time; says why."""


class _Masked(nn.Module):
    """Dropout under a mask that is given: 0, or 1 / (1 − share), per unit."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer(_MASK, torch.ones(()))
        self.shape: tuple[int, ...] = ()
        """Of what it was last applied to."""

    def forward(self, x: Tensor) -> Tensor:
        self.shape = tuple(x.shape)
        return x * self.mask if self.training else x


class _Head(nn.Module):
    """`functional_call` calls modules, not their methods."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, gathered: Tensor, batch: Batch) -> Tensor:
        return self.model.head(gathered, batch).logit


class ModelStack:
    """Copies of `models`, which must be of one shape; trained and evaluated together.

    Raises `NotStackable` if they differ in shape, or keep state that isn't a parameter or buffer.
    """

    def __init__(self, models: Sequence[Recommender]) -> None:
        first = models[0]
        _check(models)
        self.num_models = len(models)
        self.table = first.table
        """For its layout; the weights of all are in `table_weight`."""
        self.width = first.table.weight.shape[1]
        self.table_weight = torch.stack([m.table.weight.detach() for m in models], 1).flatten(1)
        """(R, K·w)"""
        self.column_mask = _column_mask(models)
        """(P, K, w): 1 where a model has a column of a position's field; None if all have all."""
        own = [{n: p.detach() for n, p in m.named_parameters()} for m in models]
        self.names = [n for n, p in first.named_parameters() if n != TABLE_WEIGHT and p.numel()]
        flat = [torch.cat([w[n].flatten() for n in self.names]) for w in own]
        self.dense_weight = torch.stack(flat)
        """(K, D)"""
        parts = self.dense_weight.split([own[0][n].numel() for n in self.names], dim=1)
        self.dense = {
            name: part.view(self.num_models, *own[0][name].shape)
            for name, part in zip(self.names, parts, strict=True)
        }
        """Views (K, …) of `dense_weight`, by name."""
        self._fixed = _stacked_rest(models, set(self.names))
        self._dropouts = [
            (f"{name}.{_MASK}", [_dropout(m, name) for m in models])
            for name, module in first.named_modules()
            if isinstance(module, Dropout)
        ]
        self._head = _Head(_skeleton(first).train())
        self._eval_head = _Head(_skeleton(first).eval())
        self._mask_shapes: dict[int, dict[str, tuple[int, ...]]] = {}

    def gather(self, rows: Tensor) -> Tensor:
        """Embeddings (B, P, K, w) of table rows (B, P)."""
        return nn.functional.embedding(rows, self.table_weight).unflatten(
            2, (self.num_models, self.width)
        )

    def masked(self, gradient: Tensor) -> Tensor:
        """A gradient (B, P, K, w) at gathered embeddings, zero at columns that a field lacks."""
        return gradient if self.column_mask is None else gradient * self.column_mask

    def logits(
        self,
        dense: Mapping[str, Tensor],
        gathered: Tensor,
        batch: Batch,
        masks: Mapping[str, Tensor],
    ) -> Tensor:
        """(K, B), in training mode, from embeddings (B, P, K, w)."""
        return self._apply(self._head, {**dense, **masks}, gathered, batch)

    def logits_of(
        self,
        index: int,
        dense: Mapping[str, Tensor],
        gathered: Tensor,
        batch: Batch,
        masks: Mapping[str, Tensor],
    ) -> Tensor:
        """(B,), of one model, from its own weights, embeddings (B, P, w) and masks of all."""
        own = {n: stacked[index] for n, stacked in {**self._fixed, **masks}.items()} | dict(dense)
        weights = {f"model.{name}": weight for name, weight in own.items()}
        logit: Tensor = functional_call(self._head, weights, (gathered, batch))
        return logit

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Logits (K, B), in evaluation mode."""
        # As many rows at a time as a cache holds of their embeddings.
        num_positions = len(self.table.offsets)
        row_bytes = max(1, num_positions) * self.num_models * self.width * 4
        size = max(64, PREDICT_BYTES // row_bytes)
        device, dense = self.table_weight.device, self.dense
        logits = []
        for begin in range(0, len(batch), size):
            part = batch[begin : begin + size].to(device)
            gathered = self.gather(self.table.rows(part))
            logits.append(self._apply(self._eval_head, dense, gathered, part))
        return torch.cat(logits, dim=1) if logits else self.table_weight.new_empty(0)

    def _apply(
        self, head: _Head, weights: Mapping[str, Tensor], gathered: Tensor, batch: Batch
    ) -> Tensor:
        def one(own: Mapping[str, Tensor], embeddings: Tensor) -> Tensor:
            return functional_call(
                head, {f"model.{n}": w for n, w in own.items()}, (embeddings, batch)
            )

        stacked = {**self._fixed, **weights}
        logit: Tensor = vmap(one, in_dims=(0, 2), randomness="different")(stacked, gathered)
        return logit

    @torch.no_grad()
    def draw_masks(self, batch: Batch) -> dict[str, Tensor]:
        """Masks (K, …) of a training step on B rows, those that each model would have drawn."""
        if not self._dropouts:
            return {}
        shapes = self._shapes_of_masks(batch)
        masks = {}
        for name, dropouts in self._dropouts:
            mask = self.dense_weight.new_empty(self.num_models, *shapes[name])
            for own, dropout in zip(mask, dropouts, strict=True):
                torch.div(dropout.draw(own), 1.0 - dropout.share, out=own)
            masks[name] = mask
        return masks

    def state_dict(self) -> dict[str, Tensor]:
        """All weights, and where each dropout layer stands; not copied."""
        state = {"dense": self.dense_weight, "table": self.table_weight}
        for name, dropouts in self._dropouts:
            state[name] = torch.stack([d.get_extra_state() for d in dropouts])
        return state

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copies a state in."""
        self.dense_weight.copy_(state["dense"])
        self.table_weight.copy_(state["table"])
        for name, dropouts in self._dropouts:
            for dropout, own in zip(dropouts, state[name], strict=True):
                dropout.set_extra_state(own)

    def set_dropout(self, shares: Sequence[float]) -> None:
        """Sets the share of every dropout layer, one a model."""
        for _, dropouts in self._dropouts:
            for dropout, share in zip(dropouts, shares, strict=True):
                dropout.share = share

    def _shapes_of_masks(self, batch: Batch) -> dict[str, tuple[int, ...]]:
        if len(batch) not in self._mask_shapes:
            gathered = self.gather(self.table.rows(batch))[:, :, 0]
            self.logits_of(0, {n: w[0] for n, w in self.dense.items()}, gathered, batch, {})
            self._mask_shapes[len(batch)] = {
                name: _masked(self._head.model, name).shape for name, _ in self._dropouts
            }
        return self._mask_shapes[len(batch)]


def _check(models: Sequence[Recommender]) -> None:
    first = models[0]
    for model in models[1:]:
        if _shape(model) != _shape(first):
            raise NotStackable("models differ in their layers or sizes")
    for name, module in first.named_modules():
        keeps_more = type(module).get_extra_state is not nn.Module.get_extra_state
        if keeps_more and not isinstance(module, Dropout):
            raise NotStackable(f"`{name}` keeps state that is no parameter and no buffer")


def _shape(model: Recommender) -> list[tuple[str, object]]:
    modules: list[tuple[str, object]] = [(n, type(m)) for n, m in model.named_modules()]
    tensors = itertools.chain(model.named_parameters(), model.named_buffers())
    # Sizes of fields may differ: tables are as wide, each under its own mask.
    own = [(n, t) for n, t in tensors if n != _COLUMN_MASK]
    return modules + [(n, (t.shape, t.dtype, t.requires_grad)) for n, t in own]


def _column_mask(models: Sequence[Recommender]) -> Tensor | None:
    masks = [m.table.column_mask for m in models]
    known = [mask for mask in masks if mask is not None]
    if not known:
        return None
    whole = torch.ones_like(known[0])
    return torch.stack([whole if mask is None else mask for mask in masks], dim=1)


def _stacked_rest(models: Sequence[Recommender], trained: set[str]) -> dict[str, Tensor]:
    """Buffers and empty parameters of the heads, (K, …): no two models need share them."""
    rest: dict[str, list[Tensor]] = {}
    for model in models:
        for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
            if name not in trained and not name.startswith("table."):
                rest.setdefault(name, []).append(tensor.detach())
    return {name: torch.stack(tensors) for name, tensors in rest.items()}


def _skeleton(model: Recommender) -> Recommender:
    """A copy without its table's weights, and with masks in place of dropout."""
    copied = copy.deepcopy(
        model, {id(model.table): nn.Identity(), id(model.features): model.features}
    )
    for name, module in list(copied.named_modules()):
        if isinstance(module, Dropout):
            parent, _, own = name.rpartition(".")
            setattr(copied.get_submodule(parent), own, _Masked())
    return copied


def _dropout(model: Recommender, name: str) -> Dropout:
    module = model.get_submodule(name)
    assert isinstance(module, Dropout)
    return copy.deepcopy(module)


def _masked(model: Recommender, name: str) -> _Masked:
    module = model.get_submodule(name.removesuffix(f".{_MASK}"))
    assert isinstance(module, _Masked)
    return module
