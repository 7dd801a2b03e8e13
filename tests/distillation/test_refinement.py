"""Refinement lowers the outer loss where there is something to gain, and keeps what it must."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diet_ray.distillation.refinement import (
    MAX_LOGIT,
    RefinementConfig,
    RefinementResult,
    SlotContent,
    _split,
    _with_total,
    refine,
)
from diet_ray.models.catalogue import Candidate, build
from tests.distillation.rows import FEATURES, random_rows

CANDIDATE = Candidate(name="small", architecture="dnn", embedding_size=4, hidden_sizes=(16,))


def run(
    content: SlotContent,
    config: RefinementConfig,
    seed: int = 0,
    norm: float = 0.0,
    label: Tensor | None = None,
) -> RefinementResult:
    """`label` (2,): of every two real rows, in place of their own."""
    slots = random_rows(len(content.weight), 1)
    stage_rows, retained_rows = random_rows(600, 2), random_rows(400, 3)
    if label is not None:
        stage_rows = replace(stage_rows, label=label.repeat(300))
        retained_rows = replace(retained_rows, label=label.repeat(200))
    return refine(
        slots,
        content,
        torch.zeros(len(slots)),
        [build(CANDIDATE, FEATURES, 0), build(CANDIDATE, FEATURES, 1)],
        stage_rows,
        retained_rows,
        config,
        gradient_norm=norm,
        generator=torch.Generator().manual_seed(seed),
    )


def uninformed(num_slots: int = 100) -> SlotContent:
    slots = random_rows(num_slots, 1)
    return SlotContent(
        soft_label=torch.zeros(num_slots),
        weight=torch.linspace(1.0, 9.0, num_slots).double(),
        numeric=slots.numeric,
    )


def test_learns_labels_from_nothing_and_keeps_the_total_weight() -> None:
    content = uninformed()
    config = RefinementConfig(outer_steps=40, outer_learning_rate=0.1, inner_learning_rate=0.02)
    result = run(content, config)
    assert result.accepted
    assert result.loss_after < result.loss_before - 0.01
    assert result.content.weight.sum().item() == pytest.approx(500.0, rel=1e-9)
    # Labels move towards the truth: dear items get clicks in this log.
    price = content.numeric[:, 0]
    correlation = torch.corrcoef(torch.stack([price, result.content.soft_label]))[0, 1]
    assert correlation > 0.3


def test_a_change_that_does_not_help_is_dropped() -> None:
    """With an outer step far too large the validation loss rises, and the content stays."""
    content = uninformed()
    result = run(content, RefinementConfig(outer_steps=2, outer_learning_rate=500.0))
    assert result.loss_after > result.loss_before
    assert math.isfinite(result.gradient_norm)
    assert not result.accepted
    assert torch.equal(result.content.soft_label, content.soft_label)
    assert torch.equal(result.content.weight, content.weight)


def test_every_second_row_of_the_stage_and_of_the_retained_ones_is_held_back() -> None:
    stage = replace(random_rows(5, 2), label=torch.arange(5.0))
    retained = replace(random_rows(4, 3), label=torch.arange(10.0, 14.0))
    outer, validation = _split(stage, retained)
    assert outer.label.tolist() == [0, 2, 4, 10, 12]
    assert validation.label.tolist() == [1, 3, 11, 13]
    assert [rows.label.tolist() for rows in _split(stage, None)] == [[0, 2, 4], [1, 3]]


def test_a_change_is_judged_on_rows_that_taught_it_nothing() -> None:
    """Rows to learn from all have clicks, those to judge on none: what is learnt can't help."""
    config = RefinementConfig(outer_steps=10, outer_learning_rate=0.2, inner_learning_rate=0.02)
    assert run(uninformed(), config, label=torch.tensor([1.0, 1.0])).accepted
    result = run(uninformed(), config, label=torch.tensor([1.0, 0.0]))
    assert result.loss_after > result.loss_before
    assert not result.accepted


@pytest.mark.parametrize(("label", "limit"), [(1.0, MAX_LOGIT), (0.0, -MAX_LOGIT)])
def test_the_largest_steps_end_at_limits_of_the_same_total(label: float, limit: float) -> None:
    config = RefinementConfig(outer_steps=2, outer_learning_rate=30.0, inner_learning_rate=0.02)
    result = run(uninformed(), config, label=torch.full((2,), label))
    assert result.accepted
    assert result.content.soft_label.median() == limit
    assert result.content.soft_label.abs().max() == MAX_LOGIT
    assert result.content.weight.sum().item() == pytest.approx(500.0, rel=1e-9)


def test_weights_change_by_no_more_than_a_factor() -> None:
    content = uninformed()
    config = RefinementConfig(
        outer_steps=40,
        outer_learning_rate=0.1,
        inner_learning_rate=0.02,
        max_weight_ratio=2.0,
    )
    result = run(content, config)
    assert result.accepted
    ratio = result.content.weight / content.weight
    assert ratio.max().item() == pytest.approx(2.0)
    assert ratio.min().item() > 0.5 - 1e-6
    assert result.content.weight.sum().item() == pytest.approx(500.0, rel=1e-9)


@pytest.mark.parametrize(
    ("weight", "max_ratio", "expected"),
    [
        ([2.0, 4.0, 4.0, 6.0], 2.0, [2.0, 4.0, 4.0, 6.0]),
        ([2.0, 2.0, 2.0, 4.0], 2.0, [3.2, 3.2, 3.2, 6.4]),
        ([2.0, 2.0, 2.0, 8.0], 2.0, [8 / 3, 8 / 3, 8 / 3, 8.0]),
        ([8.0, 8.0, 8.0, 2.0], 2.0, [14 / 3, 14 / 3, 14 / 3, 2.0]),
        ([2.0, 4.0, 4.0, 6.0], 1.0, [4.0, 4.0, 4.0, 4.0]),
    ],
)
def test_weights_of_four_by_hand(
    weight: list[float], max_ratio: float, expected: list[float]
) -> None:
    first = torch.full((4,), 4.0, dtype=torch.float64)
    found = _with_total(torch.tensor(weight, dtype=torch.float64), first, max_ratio)
    assert found.tolist() == pytest.approx(expected)


def test_same_seed_same_bits() -> None:
    config = RefinementConfig(outer_steps=4)
    first, second, other = (
        run(uninformed(), config),
        run(uninformed(), config),
        run(uninformed(), config, seed=5),
    )
    assert torch.equal(first.content.soft_label, second.content.soft_label)
    assert first.gradient_norm == second.gradient_norm
    assert first.gradient_norm != other.gradient_norm


def test_no_outer_steps_changes_nothing() -> None:
    content = uninformed()
    result = run(content, RefinementConfig(outer_steps=0), norm=0.25)
    assert torch.equal(result.content.soft_label, content.soft_label)
    assert result.gradient_norm == 0.25


@pytest.mark.parametrize("values", [{"window": 5, "total_window": 4}, {"outer_steps": -1}])
def test_refuses_settings(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"window|outer_steps"):
        RefinementConfig(**values)  # type: ignore[arg-type]
