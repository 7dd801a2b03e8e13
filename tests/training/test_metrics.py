from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diet_ray.errors import DataError
from diet_ray.training.metrics import auc, log_loss

rows = st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), min_size=2, max_size=40).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


@given(rows)
def test_auc_is_the_share_of_ordered_pairs_with_ties_half(rows: list[tuple[int, int]]) -> None:
    pairs = [(p, n) for y_p, p in rows for y_n, n in rows if y_p == 1 and y_n == 0]
    expected = sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs) / len(pairs)
    labels, scores = zip(*rows, strict=True)
    assert auc(labels, scores) == pytest.approx(expected, abs=1e-15)
    assert auc(torch.tensor(labels).float(), torch.tensor(scores).float()) == auc(labels, scores)


def test_auc_by_hand() -> None:
    # Positives 0.4 and 0.8 against negatives 0.1, 0.4, 0.9: pairs won 1, ½, 0 and 1, 1, 0.
    assert auc([1, 0, 1, 0, 0], [0.4, 0.1, 0.8, 0.4, 0.9]) == pytest.approx(3.5 / 6)
    assert auc([0, 1], [-math.inf, math.inf]) == 1.0


def test_auc_is_exact_for_many_rows() -> None:
    # Sums of ranks in single precision would be off in the fourth digit here.
    n = 300_000
    labels = np.arange(2 * n) % 2
    scores = np.arange(2 * n)
    assert auc(labels, scores) == (n + 1) / (2 * n)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_auc_of_one_class_is_refused(label: float) -> None:
    with pytest.raises(DataError, match="both classes"):
        auc([label, label], [0.1, 0.2])


def test_nan_score_is_named() -> None:
    for metric in (auc, log_loss):
        with pytest.raises(DataError, match="row 1"):
            metric([0, 1, 1], torch.tensor([0.0, math.nan, 1.0]))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="two vectors"):
        auc([0, 1, 1], [0.0, 1.0])


def test_log_loss_is_the_cross_entropy() -> None:
    labels, logits = np.array([1.0, 0.0, 1.0]), np.array([0.3, -1.2, -2.0])
    p = 1 / (1 + np.exp(-logits))
    expected = -np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p))
    assert log_loss(labels, logits) == pytest.approx(expected, rel=1e-14)


def test_log_loss_of_huge_logits_is_finite() -> None:
    assert log_loss([1.0, 0.0], torch.tensor([-1000.0, 1000.0])) == 1000.0
    assert log_loss([1.0, 0.0], torch.tensor([1000.0, -1000.0])) == 0.0
    with pytest.raises(DataError, match="at least one row"):
        log_loss([], [])
