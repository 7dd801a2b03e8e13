"""The scores of a row under one or several checkpoints of a training.

With z the logit, y the label, r = σ(z) − y, g the gradient of the row's log loss over all
parameters, ḡ the mean gradient of a validation block, η a checkpoint's learning rate and D Adam's
preconditioner (`diet_ray.influence.direction`):

| score | formula | over checkpoints | source |
|---|---|---|---|
| `loss` | softplus(z) − y·z | mean | |
| `error` | abs(r) | mean | EL2N / √2, Paul et al., arXiv 2107.07075 |
| `last_layer`, `embedding`, `gradient` | ‖g‖ over those parts | mean | GraNd, the same |
| `full` | ‖g‖ | mean | GraNd |
| `self_influence` | η ‖g‖² | sum | TracIn, Pruthi et al., arXiv 2002.08484 |
| `adam_self_influence` | η ⟨D∘g, g⟩ | sum | TracIn under Adam |
| `validation` | η ⟨g, ḡ⟩ | sum | TracIn: above 0, training on the row helps the block |
| `adam_validation` | η ⟨D∘g, ḡ⟩ | sum | TracIn under Adam, as in LESS, arXiv 2402.04333 |
| `features` | Pg, `feature_size` numbers | last | LoGra-like, `diet_ray.influence.projection` |
| `leverage` | how unusual Pg is | last | ridge leverage, `diet_ray.influence.leverage` |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from diet_ray.data.batch import Batch
from diet_ray.influence.config import Score
from diet_ray.influence.direction import Direction, along, scaled, weighted_squared_norm
from diet_ray.influence.gradients import Reach, RowGradients, row_gradients, squared_norm
from diet_ray.influence.leverage import leverage
from diet_ray.influence.projection import project
from diet_ray.influence.scores import influence, reach_of
from diet_ray.models.base import Recommender
from diet_ray.scoring.config import NEEDS_FEATURES, Precision, RowScore

T = TypeVar("T")

_NORMS: dict[RowScore, Score] = {
    "error": "error",
    "last_layer": "last_layer",
    "embedding": "embedding",
    "gradient": "gradient",
    "full": "full",
}
_DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class ScoredModel:
    """A checkpoint with what its scores need; what none of them needs may be None."""

    model: Recommender
    learning_rate: float
    validation: Direction | None = None
    """ḡ"""
    preconditioner: Direction | None = None
    """D"""


class RowScorer:
    """Scores batches under checkpoints, the last of them last."""

    def __init__(
        self,
        models: Sequence[ScoredModel],
        scores: Sequence[RowScore],
        *,
        num_features: int,
        seed: int,
        whitening: Tensor | None = None,
        precision: Precision = "float32",
    ) -> None:
        """`whitening` is that of the last checkpoint's reference sample, for `leverage`."""
        self._models = tuple(models)
        self._scores = tuple(scores)
        self._num_features = num_features
        self._seed = seed
        self._whitening = whitening
        self._dtype = _DTYPES[precision]
        self._adam_validation = [
            scaled(m.validation, m.preconditioner)
            if m.validation is not None and m.preconditioner is not None
            else None
            for m in self._models
        ]

    def __call__(self, batch: Batch) -> dict[RowScore, Tensor]:
        """Scores (B,) on the models' device, `features` (B, K)."""
        total: dict[RowScore, Tensor] = {}
        for i in range(len(self._models)):
            for score, values in self._under(i, batch).items():
                total[score] = total[score] + values if score in total else values
        for score in total.keys() & (_NORMS.keys() | {"loss"}):
            total[score] = total[score] / len(self._models)
        return {score: total[score] for score in self._scores}

    def gradients(self, index: int, batch: Batch, reach: Reach) -> RowGradients:
        """Under checkpoint `index`, at the configured precision."""
        return row_gradients(self._models[index].model, batch, batch.label, reach, self._dtype)

    def _under(self, index: int, batch: Batch) -> dict[RowScore, Tensor]:
        scored, is_last = self._models[index], index == len(self._models) - 1
        wanted = [s for s in self._scores if is_last or s not in NEEDS_FEATURES]
        gradients = self.gradients(index, batch, reach_of_all(wanted))
        table, rate = scored.model.table, scored.learning_rate
        features: Tensor | None = None
        if NEEDS_FEATURES & set(wanted):
            features = project(gradients, self._num_features, self._seed)
        compute: dict[RowScore, Callable[[], Tensor]] = {
            "loss": lambda: (
                softplus(gradients.logit) - batch.label.to(gradients.logit) * gradients.logit
            ),
            "self_influence": lambda: rate * squared_norm(gradients),
            "adam_self_influence": lambda: (
                rate * weighted_squared_norm(gradients, _known(scored.preconditioner))
            ),
            "validation": lambda: rate * along(gradients, _known(scored.validation)),
            "adam_validation": lambda: (
                rate * along(gradients, _known(self._adam_validation[index]))
            ),
            "features": lambda: _known(features),
            "leverage": lambda: leverage(_known(features), _known(self._whitening)),
        }
        return {
            s: influence(table, gradients, _NORMS[s]) if s in _NORMS else compute[s]()
            for s in wanted
        }


def reach_of_all(scores: Sequence[RowScore]) -> Reach:
    """How far gradients must reach for all of the scores."""
    reaches: set[Reach] = {
        "last_layer" if s == "loss" else reach_of(_NORMS[s]) if s in _NORMS else "all"
        for s in scores
    }
    if "all" in reaches:
        return "all"
    return "embedding" if "embedding" in reaches else "last_layer"


def _known(value: T | None) -> T:
    assert value is not None, "a score was asked for without what it needs"
    return value
