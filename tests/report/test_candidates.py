"""Candidates of `consistency.json`: ranks in both arms, and pairs that flip."""

from __future__ import annotations

import math
from typing import Any

import pytest

from diet_ray.report.candidates import FAMILIES, OTHER_FAMILY, candidates, flipped_pairs


def candidate(name: str, full: list[float], distilled: list[float], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "config": {},
        "full": {"auc": full},
        "distilled": {"auc": distilled},
    } | more


def test_candidates_are_ranked_in_both_arms() -> None:
    rows = candidates(
        {
            "candidates": [
                candidate("b", [0.6, 0.7], [0.5]),
                candidate("a", [0.7, 0.72], [0.6]),
                candidate("c", [0.5, 0.5], [0.6]),
            ]
        }
    )
    assert [r.name for r in rows] == ["a", "b", "c"]
    assert [r.full_rank for r in rows] == [1, 2, 3]
    # Two tied for the first place share the mean of the places.
    assert [r.distilled_rank for r in rows] == [1.5, 3, 1.5]
    assert [r.rank_change for r in rows] == [-0.5, -1, 1.5]
    assert rows[1].full_auc == pytest.approx(0.65)
    assert rows[1].full_sd == pytest.approx(math.sqrt(0.005))
    assert rows[1].distilled_sd is None


def test_failed_and_duplicate_candidates_have_no_rank_and_a_reason() -> None:
    rows = candidates(
        {
            "candidates": [
                candidate("lr-8", [0.7, 0.7], [0.6], counted=True),
                candidate("lr-16", [0.71, 0.71], [0.6], counted=False),
                candidate("dnn", [], [0.6], counted=False, error="full run: out of memory"),
            ]
        }
    )
    assert [(r.name, r.full_rank) for r in rows] == [("lr-16", None), ("lr-8", 1), ("dnn", None)]
    assert rows[0].why == "not counted: the same model as an earlier one"
    assert rows[1].why == ""
    assert rows[2].why == "full run: out of memory"


def test_families_follow_the_architecture(consistency: dict[str, Any]) -> None:
    families = {r.name: r.family for r in candidates(consistency)}
    assert families["dcnv2-16"] == families["dcn-16"] == "cross"
    assert families["lr-16"] != families["dnn-16"]
    (own,) = candidates({"candidates": [candidate("mine", [0.6], [0.5])]})
    assert own.family == OTHER_FAMILY


def test_every_architecture_of_the_catalogue_has_a_family() -> None:
    from diet_ray.models.catalogue import ARCHITECTURES

    assert set(ARCHITECTURES) <= set(FAMILIES)


def test_a_pair_flips_if_it_is_resolved_and_in_the_wrong_order() -> None:
    # Two standard errors of the difference of two means over two seeds: 2 · 0.001 · √(1/2 + 1/2).
    rows = candidates(
        {
            "candidates": [
                candidate("a", [0.7000, 0.7000], [0.60]),
                candidate("b", [0.6981, 0.6981], [0.62]),  # 0.0019 behind: not resolved
                candidate("c", [0.6979, 0.6979], [0.61]),  # 0.0021 behind: resolved, flipped
                candidate("d", [0.6900, 0.6900], [0.60]),  # resolved, a tie is no order
                candidate("e", [0.6800, 0.6800], [0.50]),
            ]
        }
    )
    flips = flipped_pairs(rows, seed_sd=0.001)
    assert [(f.better.name, f.worse.name) for f in flips] == [("a", "d"), ("a", "c")]
    assert flips[1].full_gap == pytest.approx(0.0021)
    assert flips[1].distilled_gap == pytest.approx(-0.01)


def test_no_pair_flips_without_a_seed_sd_or_among_the_uncounted(
    consistency: dict[str, Any],
) -> None:
    rows = candidates(consistency)
    assert len(flipped_pairs(rows, consistency["seed_sd"])) == 3
    assert flipped_pairs(rows, None) == []
    for c in consistency["candidates"]:
        c["counted"] = c["name"] != "dcnv2-16"
    assert flipped_pairs(candidates(consistency), consistency["seed_sd"]) == []


def test_no_candidates_are_no_error() -> None:
    assert candidates({}) == candidates({"candidates": None}) == []
