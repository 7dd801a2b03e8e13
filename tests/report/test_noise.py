"""The line on noise says what was estimated, or that nothing was."""

from __future__ import annotations

import dataclasses
from typing import Any

from diet_ray.report.noise import noise, noise_of
from diet_ray.search.resolution import Resolution

FOUND = Resolution(
    seed_sd=0.00121,
    threshold=0.0034,
    num_pairs=66,
    num_unresolved_pairs=31,
    places=((1, 12),) * 12,
)


def test_a_search() -> None:
    line = "Noise: seed SD 0.0012; differences below 0.0034 AUC are not resolved: 31 of 66 pairs"
    assert noise(FOUND) == line
    stopped = dataclasses.replace(FOUND, num_pairs=40)
    assert noise(stopped).endswith(
        "31 of 40 pairs (only candidates that were judged equally often are compared)"
    )


def test_without_an_estimate() -> None:
    assert "no estimate" in noise(None)
    assert "two seeds or more" in noise(None)


def test_a_consistency_run(consistency: dict[str, Any]) -> None:
    assert noise_of(consistency) == (
        "Noise of the distilled runs: seed SD 0.0012; differences below 0.0020 AUC are not "
        "resolved: 7 of 66 pairs."
    )
    single = consistency | {"distilled_seed_sd": None, "resolution_threshold": None}
    assert noise_of(single) == (
        "Noise of the distilled runs: no estimate: needs distilled runs with two seeds or more."
    )
    # Reports of earlier versions have no such keys.
    del consistency["distilled_seed_sd"]
    assert noise_of(consistency).endswith("no estimate: not recorded.")
