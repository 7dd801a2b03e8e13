"""What the memory is used for while things go wrong: a made-up driver, and distillation itself."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from diet_ray.data.schema import Schema
from diet_ray.distillation.config import DistillConfig
from diet_ray.distillation.pipeline import STEPS as STEPS
from diet_ray.distillation.pipeline import (
    Distiller,
    Watcher,
    remaining_stages,
    resume,
    slot_budgets,
)
from diet_ray.influence.serial import SerialScorer
from diet_ray.memory.snapshot import read_committed
from diet_ray.memory.store import MemoryStore
from diet_ray.storage import Folder
from tests.distillation.small_log import SCHEMA, small_log
from tests.distillation.test_pipeline import DEFAULT, make_config
from tests.memory.small_memory import Driver, Memory, click_schema

NUM_STAGES = 3
OnStep = Callable[[int, str], None]


class Workload(Protocol):
    schema: Schema

    def run(self, memory: Memory, driver: str, on_step: OnStep) -> None:
        """Takes the memory over and distils what remains; `on_step` may end it anywhere."""


@dataclass(frozen=True)
class MadeUp:
    """Updates that add, change and remove, without a model."""

    schema: Schema

    def run(self, memory: Memory, driver: str, on_step: OnStep) -> None:
        steps = ("added", "refined", "fused", "committed")
        Driver(NUM_STAGES, before_call=lambda stage, i: on_step(stage, steps[i])).run(
            memory, driver
        )


@dataclass(frozen=True)
class Distillation:
    """Stages with their proxies, scores and refinement, in this process."""

    schema: Schema
    config: DistillConfig

    def run(self, memory: Memory, driver: str, on_step: OnStep) -> None:
        log = _log()
        position = memory.begin(driver)
        state = resume(log, self.config, memory)
        budgets = slot_budgets(log, self.config)
        scorer = SerialScorer(
            log, self.config.lead, self.config.influence, budgets, self.config.seed
        )
        stages = remaining_stages(log, state)
        watcher = Watcher(on_step=on_step)
        Distiller(log, self.config, state, scorer, memory, position, watcher).run(stages)


WORKLOADS: dict[str, Workload] = {
    "distillation": Distillation(SCHEMA, DEFAULT),
    "distillation, refined": Distillation(SCHEMA, make_config()),
    "made up": MadeUp(click_schema()),
}


@dataclass(frozen=True)
class Reference:
    """What an undisturbed run leaves."""

    slots: dict[int, pa.Table]
    """Of every committed stage."""
    state: dict[str, object]
    """The driver's at the end."""


@functools.cache
def reference(workload: str) -> Reference:
    slots: dict[int, pa.Table] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = MemoryStore(Path(folder) / "memory", WORKLOADS[workload].schema)

        class Recorded:
            def __getattr__(self, name: str) -> object:
                return getattr(store, name)

            def commit(self, commit: object) -> object:
                ack = store.commit(commit)  # type: ignore[arg-type]
                committed = read_committed(Folder.at(Path(folder) / "memory"))
                assert committed is not None
                slots[committed[0].stage] = committed[1]
                return ack

        WORKLOADS[workload].run(Recorded(), "undisturbed", lambda stage, step: None)  # type: ignore[arg-type]
        last = store.last_commit()
        store.close()
    assert last is not None
    return Reference(slots, without_clock(last[1]))


def without_clock(state: dict[str, bytes]) -> dict[str, object]:
    """The driver's state but for seconds, and for the bytes that scorers sent, which are none
    where they are in the same process."""
    found: dict[str, object] = {n: c for n, c in state.items() if n != "seconds.json"}
    if "stream.json" in state:
        stream = json.loads(state["stream.json"])
        for record in stream["records"]:
            del record["bytes_received"]
        found["stream.json"] = stream
    return found


@functools.cache
def _log() -> object:
    # For the process's life, which many schedules share.
    return small_log(Path(tempfile.mkdtemp(prefix="chaos-log-")), NUM_STAGES)
