"""The held-out rows that every run of either arm is judged on, and the figures taken there."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from torch import Tensor

from diet_ray.data.batch import Batch
from diet_ray.data.log import PreparedLog
from diet_ray.data.selection import FieldSelection
from diet_ray.errors import DataError
from diet_ray.models.base import Recommender
from diet_ray.search.sampling import even_positions, take_rows
from diet_ray.training.loop import predict
from diet_ray.training.metrics import auc, log_loss

NUM_BLOCKS = 8
"""Consecutive parts of the ranking slice whose AUC is kept, to say how much it moves with time."""


@dataclass(frozen=True)
class EvaluationRows:
    """Test rows in time order: the first `num_ranking` rank candidates, the rest give regret."""

    batch: Batch
    num_ranking: int

    def __len__(self) -> int:
        return len(self.batch)

    def select(self, selection: FieldSelection) -> EvaluationRows:
        return EvaluationRows(selection(self.batch), self.num_ranking)

    def ranking_alone(self) -> EvaluationRows:
        """Without the later rows, which say nothing of a ranking."""
        return EvaluationRows(self.batch[: self.num_ranking], self.num_ranking)

    def to(self, device: str) -> EvaluationRows:
        return EvaluationRows(self.batch.to(device), self.num_ranking)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Figures of one model; `auc` and `logloss` on the ranking slice, `regret_*` on the later one,
    None if it wasn't judged there.

    `block_auc` are those of the ranking slice's blocks, None where a block has one class only.
    """

    allows_nan: ClassVar[bool] = True
    """Of log losses, when a training has diverged."""
    auc: float
    logloss: float
    regret_auc: float | None
    regret_logloss: float | None
    block_auc: tuple[float | None, ...]

    def __post_init__(self) -> None:
        for value in (self.auc, self.regret_auc, *self.block_auc):
            if value is not None and not 0.0 <= value <= 1.0:
                raise ValueError(f"an AUC lies between 0 and 1, found {value}")


def evaluation_rows(log: PreparedLog, num_rows: int) -> EvaluationRows:
    """`num_rows` evenly spaced rows of the test stages (all, if they are fewer), split in two.

    Raises `DataError` if there are no test rows or either half lacks one of the classes.
    """
    total = log.num_test_rows
    if total < 2:
        raise DataError(f"{log.path}: the log has no test rows; set aside a test tail")
    batch = take_rows(log, log.test_stages, even_positions(total, num_rows))
    num_ranking = len(batch) // 2
    for name, label in (
        ("first", batch.label[:num_ranking]),
        ("second", batch.label[num_ranking:]),
    ):
        num_positive = int(label.sum())
        if num_positive in (0, len(label)):
            only = 1 if num_positive else 0
            raise DataError(
                f"{log.path}: the {name} half of the test tail has label {only} alone "
                f"({len(label)} rows), so no AUC exists; lengthen the test part"
            )
    return EvaluationRows(batch, num_ranking)


def evaluate(model: Recommender, rows: EvaluationRows) -> Evaluation:
    """Judges a model. Raises `ArithmeticError` if a prediction isn't finite."""
    return evaluation_of(predict(model, rows.batch).cpu(), rows)


def evaluation_of(logit: Tensor, rows: EvaluationRows) -> Evaluation:
    """Judges logits (N,), on the CPU, of all rows. Raises `ArithmeticError` if one isn't finite."""
    if not bool(logit.isfinite().all()):
        raise ArithmeticError("predictions are not finite: training diverged; lower learning_rate")
    label = rows.batch.label.cpu()
    first, second = slice(0, rows.num_ranking), slice(rows.num_ranking, None)
    has_later = len(rows) > rows.num_ranking
    edges = np.linspace(0, rows.num_ranking, NUM_BLOCKS + 1).astype(int)
    blocks = [slice(a, b) for a, b in pairwise(edges)]
    return Evaluation(
        auc=float(auc(label[first], logit[first])),
        logloss=float(log_loss(label[first], logit[first])),
        regret_auc=float(auc(label[second], logit[second])) if has_later else None,
        regret_logloss=float(log_loss(label[second], logit[second])) if has_later else None,
        block_auc=tuple(_auc_or_none(label[b], logit[b]) for b in blocks),
    )


def _auc_or_none(label: Tensor, logit: Tensor) -> float | None:
    num_positive = int(label.sum())
    return float(auc(label, logit)) if 0 < num_positive < len(label) else None
