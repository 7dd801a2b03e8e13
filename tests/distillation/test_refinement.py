"""Refinement lowers the outer loss where there is something to gain, and keeps what it must."""

from __future__ import annotations

import math

import pytest
import torch

from diet_ray.distillation.refinement import RefinementConfig, SlotContent, refine
from diet_ray.models.catalogue import Candidate, build
from tests.distillation.rows import FEATURES, random_rows

CANDIDATE = Candidate(name="small", architecture="dnn", embedding_size=4, hidden_sizes=(16,))


def run(content: SlotContent, config: RefinementConfig, seed: int = 0, norm: float = 0.0):  # type: ignore[no-untyped-def]
    slots = random_rows(len(content.weight), 1)
    return refine(
        slots,
        content,
        torch.zeros(len(slots)),
        [build(CANDIDATE, FEATURES, 0), build(CANDIDATE, FEATURES, 1)],
        random_rows(600, 2),
        random_rows(400, 3),
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
