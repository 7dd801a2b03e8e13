"""One schedule in one process, against the undisturbed run."""

from __future__ import annotations

from pathlib import Path

from diet_ray.errors import DietError, DistilledSetError
from diet_ray.memory.store import MemoryStore
from diet_ray.memory.verification import verify_memory
from tests.chaos.channel import Channel
from tests.chaos.disk import Disk
from tests.chaos.faults import DriverDied, Violation
from tests.chaos.host import Host, Tally
from tests.chaos.ledger import Ledger
from tests.chaos.schedule import Schedule
from tests.chaos.workload import WORKLOADS, reference, without_clock

MAX_DRIVERS = 40


def run_schedule(schedule: Schedule, folder: Path) -> Tally:
    """Raises `Violation` if a promise is broken. `folder` is empty."""
    tally = Tally()
    expected = reference(schedule.workload)
    workload = WORKLOADS[schedule.workload]
    ledger = Ledger(expected.slots)
    host = Host(folder, schedule, workload.schema, ledger, tally)
    channel = Channel(host, schedule, workload.schema, ledger, tally)
    deaths = set(schedule.driver_deaths)

    def on_step(stage: int, step: str) -> None:
        if (stage, step) in deaths:
            deaths.remove((stage, step))
            raise DriverDied

    def run() -> None:
        for life in range(MAX_DRIVERS):
            try:
                workload.run(channel, f"driver {life}", on_step)
                host.stopped()
                return
            except DriverDied:
                tally.driver_deaths += 1
                host.look()
            except DistilledSetError as e:
                host.stopped()
                # A dead driver's first call may come late and take over; so may a commit that
                # was reported as failed.
                if "is committed" not in str(e) and "taken over" not in str(e):
                    host.repair(e)
            except DietError:
                host.stopped()
        raise Violation(f"{MAX_DRIVERS} drivers didn't get to the end")

    if isinstance(host.storage, Disk):
        with host.storage.attached():
            run()
    else:
        run()
    # The end of a run looks the same to the host.
    tally.clean_stops -= 1
    tally.storage_faults = host.storage.num_injected
    tally.acknowledged = ledger.num_acknowledged
    problems = verify_memory(host.seen, workload.schema).problems
    if problems and not host.storage.has_lied:
        raise Violation(f"verification finds: {problems}")
    if problems:
        # The lie came last; whoever opens the memory is told, goes back, and goes on.
        host.repair(DistilledSetError(problems[0]))
    store = MemoryStore(host.seen, workload.schema)
    try:
        if problems:
            workload.run(store, "driver after the repair", lambda stage, step: None)
        if not store.slots().equals(expected.slots[max(expected.slots)]):
            raise Violation("the slots differ from the undisturbed run's")
        last = store.last_commit()
        if last is None or without_clock(last[1]) != expected.state:
            raise Violation("the driver's state differs from the undisturbed run's")
    finally:
        store.close()
    return tally
