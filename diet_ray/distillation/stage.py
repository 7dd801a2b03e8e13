"""One stage of distillation, as mathematics: no Ray, no files.

Given the stage's scores and the proxy before and after it, works out which slots join the memory,
which change and which go. The three updates are applied one by one, each computed from the memory
that the one before left.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.data.encoding import to_batch
from diet_ray.distillation.config import DistillConfig
from diet_ray.distillation.refinement import SlotContent, refine
from diet_ray.distillation.retention import RowSample
from diet_ray.influence.shard_scores import StageScores, similarity
from diet_ray.memory.addressing import address
from diet_ray.memory.slots import boundary_slots, with_columns
from diet_ray.models.base import Recommender
from diet_ray.models.catalogue import build


@dataclass(frozen=True, kw_only=True)
class RefinedSlots:
    changed: pa.Table
    """All slots, as they are now."""
    loss_before: float | None
    loss_after: float | None
    accepted: bool
    gradient_norm: float


def propose_slots(
    scores: StageScores,
    honest_logits: np.ndarray,
    held_out: np.ndarray,
    first_row: int,
    predict_after: Callable[[Batch], Tensor],
    features: FeatureSpec,
    *,
    stage: int,
    next_slot: int,
) -> pa.Table:
    """Boundary memory: the stage's winners as slots.

    Their soft label is the proxies' logit after the stage; their residual is the observed label
    minus an honest probability: for a held-out row that of the soft label, which can't know the
    label, for another the one predicted before training on the row. honest_logits and held_out
    (rows of the stage,) begin at row `first_row`; `predict_after` gives logits (B,).
    """
    winners = scores.winners
    offsets = winners["_row"].to_numpy() - first_row
    soft_label = predict_after(to_batch(winners, features))
    before = torch.from_numpy(honest_logits[offsets])
    honest = torch.where(torch.from_numpy(held_out[offsets]), soft_label, before)
    label = torch.from_numpy(winners["_label"].to_numpy(zero_copy_only=False).copy())
    return boundary_slots(
        winners,
        soft_label=soft_label.numpy(),
        residual=(label - torch.sigmoid(honest)).numpy(),
        birth_stage=stage,
        next_slot=next_slot,
    )


def addressed_slots(
    slots: pa.Table,
    scores: StageScores,
    before: Recommender,
    features: FeatureSpec,
    config: DistillConfig,
) -> np.ndarray:
    """Indices (K,), ascending, of the slots that the stage may change.

    Gradients of slots and of the stage are both taken under the proxy `before` the stage. None
    without refinement, which alone changes slots one by one.
    """
    if config.refinement.outer_steps == 0:
        return np.empty(0, np.int64)
    batch = to_batch(slots, features)
    target = torch.sigmoid(_column(slots, "_soft_label")) + _column(slots, "_residual")
    similarities = similarity(before, batch, target, scores.aggregate)
    return address(similarities.numpy(), slots["_slot"].to_numpy(), config.addressing)


def relabelled(
    slots: pa.Table, predict_after: Callable[[Batch], Tensor], features: FeatureSpec
) -> pa.Table:
    """All slots with the proxies' newest logits as soft labels; `predict_after` gives (B,)."""
    return with_columns(
        slots, {"_soft_label": predict_after(to_batch(slots, features)).float().numpy()}
    )


def refine_slots(
    slots: pa.Table,
    addressed: np.ndarray,
    stage_rows: RowSample,
    retained: RowSample | None,
    starts: Sequence[Recommender],
    features: FeatureSpec,
    config: DistillConfig,
    *,
    stage: int,
    residual_share: float,
    gradient_norm: float,
) -> RefinedSlots:
    """Refines the addressed slots, from the soft labels that they have.

    starts: proxies of different ages, the newest last; a fresh model is added, seeded by stage.
    """
    if not len(addressed):
        return RefinedSlots(
            changed=slots,
            loss_before=None,
            loss_after=None,
            accepted=False,
            gradient_norm=gradient_norm,
        )
    table = slots.take(pa.array(addressed))
    batch = to_batch(table, features)
    content = SlotContent(
        soft_label=_column(table, "_soft_label"),
        weight=_column(table, "_weight"),
        numeric=batch.numeric,
    )
    fresh = build(config.lead, features, config.seed + 1 + stage)
    result = refine(
        batch,
        content,
        residual_share * _column(table, "_residual"),
        [*(_on_cpu(start) for start in starts), fresh],
        stage_rows.batch,
        None if retained is None else retained.batch,
        config.refinement,
        gradient_norm=gradient_norm,
        generator=torch.Generator().manual_seed(config.seed * 1_000_003 + stage),
    )
    refined = {
        "_soft_label": result.content.soft_label.numpy(),
        "_weight": result.content.weight.double().numpy(),
    }
    for i, name in enumerate(features.numeric):
        refined[name] = result.content.numeric[:, i].numpy()
    columns = {name: slots[name].to_numpy().copy() for name in refined}
    for name, values in refined.items():
        columns[name][addressed] = values
    return RefinedSlots(
        changed=with_columns(slots, columns),
        loss_before=result.loss_before,
        loss_after=result.loss_after,
        accepted=result.accepted,
        gradient_norm=result.gradient_norm,
    )


def _column(table: pa.Table, name: str) -> Tensor:
    return torch.from_numpy(table[name].to_numpy().copy())


def _on_cpu(model: Recommender) -> Recommender:
    """The model, or a copy of one on a GPU: slots are too few rows to pay for going there."""
    if model.table.weight.device.type == "cpu":
        return model
    return copy.deepcopy(model).cpu()
