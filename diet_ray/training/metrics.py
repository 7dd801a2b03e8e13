"""How well scores order and fit binary labels; exact, in double precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from diet_ray.errors import DataError


def auc(label: Tensor | ArrayLike, score: Tensor | ArrayLike) -> float:
    """Share of (positive, negative) pairs whose positive scores higher; a tie counts half.

    label (B,) in {0, 1}; score (B,), any monotone function of the probability. Raises `DataError`
    if only one class is there, or a score is NaN.
    """
    labels, scores = _checked(label, score)
    is_positive = labels > 0.5
    positive, negative = np.sort(scores[is_positive]), np.sort(scores[~is_positive])
    if len(positive) == 0 or len(negative) == 0:
        raise DataError(
            f"AUC needs both classes: {len(positive)} positive and {len(negative)} negative rows; "
            "evaluate on more rows"
        )
    # For each positive: negatives below it, and negatives not above it.
    below = int(np.searchsorted(negative, positive, side="left").sum())
    not_above = int(np.searchsorted(negative, positive, side="right").sum())
    return (below + not_above) / (2 * len(positive) * len(negative))


def log_loss(label: Tensor | ArrayLike, logit: Tensor | ArrayLike) -> float:
    """Mean of softplus(z) − y·z, the cross-entropy in nats, for logits (B,) of any size."""
    labels, logits = _checked(label, logit)
    if len(labels) == 0:
        raise DataError("log loss needs at least one row")
    z = logits.astype(np.float64)
    return float(np.mean(np.maximum(z, 0.0) - labels * z + np.log1p(np.exp(-np.abs(z)))))


def _checked(
    label: Tensor | ArrayLike, score: Tensor | ArrayLike
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    labels, scores = _numpy(label), _numpy(score)
    if labels.shape != scores.shape or labels.ndim != 1:
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} must be two vectors")
    is_nan = np.isnan(scores)
    if is_nan.any():
        raise DataError(
            f"row {int(is_nan.argmax())}: the score is NaN; did training diverge? "
            "lower the learning rate"
        )
    return labels, scores


def _numpy(values: Tensor | ArrayLike) -> NDArray[np.floating]:
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)
