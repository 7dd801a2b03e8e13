"""A short set of chaos schedules, and that the harness notices what it is there for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diet_ray.memory.store import MemoryStore
from diet_ray.memory.write_ahead_log import WriteAheadLog
from tests.chaos.cluster import ClusterSchedule, Drivers, Kill, run_cluster_schedule
from tests.chaos.faults import Fault, Violation
from tests.chaos.in_process import run_schedule
from tests.chaos.nodes import Nodes
from tests.chaos.schedule import STORAGES, Schedule


@pytest.mark.parametrize("seed", range(16))
def test_no_promise_is_broken(seed: int, tmp_path: Path) -> None:
    assert run_schedule(Schedule.of(seed), tmp_path).acknowledged >= 9


def test_a_schedule_is_its_seed() -> None:
    assert Schedule.of(7) == Schedule.of(7)
    assert ClusterSchedule.of(7) == ClusterSchedule.of(7)
    drawn = [Schedule.of(seed) for seed in range(100)]
    assert {s.storage for s in drawn} == set(STORAGES)
    assert len({f.kind for s in drawn for f in s.faults}) == 12


@pytest.mark.skipif("DIET_CHAOS_CLUSTERS" not in os.environ, reason="a minute; in make chaos")
def test_a_run_with_real_kills(tmp_path: Path) -> None:
    """The actor, a scorer, a node, and at last everything at once."""
    schedule = ClusterSchedule(
        seed=0,
        workload="distillation",
        kills=(
            Kill(stage=0, step="published", victim="scorer", delay_s=None),
            Kill(stage=0, step="scored", victim="memory", delay_s=None),
            Kill(stage=1, step="added", victim="worker node", delay_s=None),
            Kill(stage=1, step="fused", victim="all", delay_s=None),
        ),
    )
    nodes, drivers = Nodes(), Drivers()
    try:
        tally = run_cluster_schedule(schedule, tmp_path, nodes, drivers)
    finally:
        drivers.close()
        nodes.close()
    assert tally.kills["memory"] == tally.kills["worker node"] == tally.kills["all"] == 1
    assert tally.drivers >= 2


def quiet(storage: str, *faults: Fault, seed: int = 0) -> Schedule:
    return Schedule(
        seed=seed,
        storage=storage,  # type: ignore[arg-type]
        workload="made up",
        crash_points=(),
        driver_deaths=(),
        fates=(1.0, 0.0, 0.0, 0.0, 0.0),
        faults=faults,
    )


def violations(folder: Path) -> int:
    """Of schedules with power losses between the operations of a run."""
    found = 0
    for operation in range(4, 64, 6):
        fault = Fault(operation=operation, kind="crash after")
        try:
            run_schedule(quiet("disk, power loss", fault), _new(folder / str(operation)))
        except (Violation, AssertionError):
            found += 1
    return found


def test_an_update_that_isn_t_synced_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sound").mkdir()
    (tmp_path / "broken").mkdir()
    assert violations(tmp_path / "sound") == 0
    monkeypatch.setattr("tests.chaos.disk.Disk.fdatasync", lambda disk, descriptor: None)
    assert violations(tmp_path / "broken") > 0


def test_an_update_that_isn_t_logged_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WriteAheadLog, "append", lambda log, payload: None)
    fault = Fault(operation=12, kind="crash")
    with pytest.raises(Violation, match="was acknowledged and is lost"):
        run_schedule(quiet("disk", fault), tmp_path)


def test_an_update_applied_twice_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryStore, "_is_repeated", lambda store, message: False)
    monkeypatch.setattr(MemoryStore, "_check_position", lambda store, message: None)
    schedule = Schedule(**vars(quiet("disk")) | {"fates": (0.5, 0.0, 0.0, 0.0, 0.5)})
    with pytest.raises(Violation):
        run_schedule(schedule, tmp_path)


def test_whoever_was_lied_to_is_told_and_goes_back(tmp_path: Path) -> None:
    """A bit that storage flips in a commit that is read again."""
    repaired = 0
    for operation in range(10, 60, 5):
        schedule = quiet("object store", Fault(operation=operation, kind="flip"))
        repaired += run_schedule(schedule, _new(tmp_path / str(operation))).repairs
    assert repaired > 0


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder
