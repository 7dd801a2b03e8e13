"""Some bytes of a log, spread evenly; all of them are done by `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.log_damage import Damage, Place, outcomes


@pytest.mark.parametrize("where", ["local disk", "elsewhere"])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_the_last_good_update_or_a_named_refusal(
    where: Place, damage: Damage, tmp_path: Path
) -> None:
    found = outcomes(tmp_path, where, damage, stride=97)
    assert found["refused by name"] > 0
    assert "recovered to update 3" not in found
    if (where, damage) != ("elsewhere", "flipped"):
        assert any(outcome.startswith("recovered") for outcome in found)
