"""A driver on a cluster, `python -m tests.chaos.cluster_driver`.

The first line on standard input says what to do. It says on standard output what it does, a line of
JSON each, and waits at every step of a stage for another line on standard input.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import ray
import torch

from diet_ray.distillation.pipeline import (
    Distiller,
    Watcher,
    remaining_stages,
    resume,
    slot_budgets,
)
from diet_ray.errors import DietError
from diet_ray.influence.config import InfluenceConfig
from diet_ray.influence.pool import ScoringPool
from diet_ray.memory.actor import MemoryClient
from diet_ray.memory.update import Ack, Commit, Position, Update
from tests.chaos.workload import NUM_STAGES, WORKLOADS, Distillation
from tests.distillation.small_log import small_log


def say(what: str, **more: Any) -> None:
    print(json.dumps({"what": what} | more), flush=True)


class Announced:
    """The memory, with every acknowledgement said aloud."""

    def __init__(self, memory: MemoryClient) -> None:
        self._memory = memory

    def __getattr__(self, name: str) -> Any:
        return getattr(self._memory, name)

    def begin(self, driver: str) -> Position:
        position = self._memory.begin(driver)
        say("begun", **dataclasses.asdict(position))
        return position

    def apply(self, update: Update) -> Ack:
        ack = self._memory.apply(update)
        say("acknowledged", is_commit=False, **dataclasses.asdict(ack))
        return ack

    def commit(self, commit: Commit) -> Ack:
        ack = self._memory.commit(commit)
        say("acknowledged", is_commit=True, **dataclasses.asdict(ack))
        return ack


def on_step(stage: int, step: str) -> None:
    say("step", stage=stage, step=step)
    sys.stdin.readline()


def main() -> None:
    task = sys.stdin.readline()
    if not task:
        return
    address, log_path, memory_path, name, driver = json.loads(task)
    torch.set_num_threads(1)
    workload = WORKLOADS[name]
    assert isinstance(workload, Distillation)
    config = dataclasses.replace(
        workload.config,
        influence=InfluenceConfig(
            defensive_share=workload.config.influence.defensive_share,
            num_scorers=2,
            cpus_per_scorer=0.6,
        ),
    )
    log = small_log(Path(log_path), NUM_STAGES)
    ray.init(address=address, log_to_driver=False)
    client = MemoryClient(memory_path, log.schema, timeout_s=60)
    memory = Announced(client)
    try:
        position = memory.begin(driver)
        state = resume(log, config, memory)
        stages = remaining_stages(log, state)
        if stages:
            budgets = slot_budgets(log, config)
            with ScoringPool(
                log, stages, config.lead, config.influence, budgets, config.seed
            ) as pool:
                watcher = Watcher(on_step=on_step)
                Distiller(log, config, state, pool, memory, position, watcher).run(stages)
    except DietError as e:
        say("stopped", error=str(e))
    else:
        say("done")
    finally:
        client.close()
    ray.shutdown()


if __name__ == "__main__":
    main()
