"""Readers beside a writer, for as long as takes a few stages; a longer run is `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from diet_ray.memory.slots import with_columns
from tests.chaos.faults import Violation
from tests.chaos.load import check, run, stamped
from tests.memory.small_memory import make_slots


def test_readers_see_whole_stages(tmp_path: Path) -> None:
    found = run(tmp_path / "memory", seconds=2.0, num_readers=3)
    assert found["torn"] == []
    assert not found["writer_failed"]
    assert found["stages_committed"] >= 2


def test_a_torn_stage_would_be_seen() -> None:
    slots = stamped(make_slots(4), 3)
    check(3, slots)
    mixed = with_columns(slots, {"price": slots["price"].to_numpy() + 1})
    for stage, torn in ((2, slots), (3, mixed), (3, slots.slice(1))):
        with pytest.raises(Violation):
            check(stage, torn)
