"""What durability costs: the memory's throughput, its recovery, and its share of a stage's time.

    python benchmarks/memory.py --json

Prints JSON. `slots_per_s`: slots changed through the actor, each update acknowledged before the
next is sent. `recovery_s`: opening a memory of a million slots whose log holds an update of every
one. `durability_overhead`: of distilling a synthetic log within a budget of 100,000 slots, the
seconds spent in calls of the actor beyond those that the same changes take in plain memory, over
the stages' other seconds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import note, print_report
from diet_ray.data.schema import Schema
from diet_ray.memory.slots import aged, apply_changes, from_columns, next_slot, slot_schema
from diet_ray.memory.store import MemoryStore
from diet_ray.memory.update import Ack, Commit, Position, Update

PARTS = ("updates", "recovery", "overhead")
SCHEMA = Path(__file__).parents[1] / "examples" / "synthetic" / "schema.yaml"


def measure(part: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    if part == "updates":
        return updates(arguments, folder / "updates")
    if part == "recovery":
        return recovery(arguments, folder / "recovery")
    return overhead(arguments, folder / "overhead")


def random_slots(schema: Schema, num_slots: int, *, first_slot: int = 0) -> pa.Table:
    """Slots that compress as badly as real ones or worse."""
    draw = np.random.default_rng(first_slot)
    layout = slot_schema(schema)
    columns: dict[str, np.ndarray] = {}
    for f in layout:
        if pa.types.is_fixed_size_list(f.type):
            columns[f.name] = draw.integers(0, 20_000, (num_slots, f.type.list_size))
        elif pa.types.is_integer(f.type):
            columns[f.name] = draw.integers(0, 20_000, num_slots)
        else:
            columns[f.name] = draw.uniform(0.1, 1.0, num_slots)
    columns |= {
        "_slot": first_slot + np.arange(num_slots),
        "_label": draw.integers(0, 2, num_slots),
        "_birth_stage": np.zeros(num_slots),
    }
    return from_columns(columns, layout)


def updates(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Changes of a tenth of the memory each, through the actor, for `arguments.seconds`."""
    import ray

    from diet_ray.cluster import connect
    from diet_ray.memory.actor import MemoryClient

    schema = Schema.load(SCHEMA)
    connect(num_cpus=2, object_store_bytes=500 * 1024**2, include_dashboard=False)
    client = MemoryClient(folder, schema)
    epoch = client.begin().epoch
    slots = random_slots(schema, arguments.slots)
    client.apply(Update(epoch=epoch, stage=0, sequence=0, added=slots))
    size = arguments.slots // 10
    parts = [slots.slice(i * size, size) for i in range(10)]
    num_updates, begin_s = 0, time.perf_counter()
    while time.perf_counter() - begin_s < arguments.seconds:
        num_updates += 1
        changed = parts[num_updates % 10]
        client.apply(Update(epoch=epoch, stage=0, sequence=num_updates, changed=changed))
    took_s = time.perf_counter() - begin_s
    client.close()
    ray.shutdown()
    return {
        "slots_per_s": round(num_updates * size / took_s),
        "slots_per_update": size,
        "update_s": round(took_s / num_updates, 4),
    }


def recovery(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    schema = Schema.load(SCHEMA)
    num_slots = arguments.recovered_slots
    store = MemoryStore(folder, schema)
    epoch = store.begin("benchmark").epoch
    slots = random_slots(schema, num_slots)
    store.apply(Update(epoch=epoch, stage=0, sequence=0, added=slots))
    store.commit(Commit(epoch=epoch, stage=0, sequence=1, state={}))
    store.apply(Update(epoch=epoch, stage=1, sequence=0, changed=slots))
    position = store.position
    store.close()
    del store, slots
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    store = MemoryStore(folder)
    took_s, took_cpu_s = time.perf_counter() - begin_s, time.process_time() - begin_cpu_s
    assert store.position == position
    store.close()
    return {
        "recovery_s": round(took_s, 2),
        "recovery_cpu_s": round(took_cpu_s, 2),
        "recovered_slots": num_slots,
        "recovered_bytes": sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()),
    }


class PlainMemory:
    """The same changes, kept nowhere: what distillation would do without durability."""

    def __init__(self, schema: Schema) -> None:
        self._layout = slot_schema(schema)
        self._slots = self._layout.empty_table()
        self._next_slot = 0

    def apply(self, update: Update) -> int:
        none = self._layout.empty_table()
        added = none if update.added is None else update.added
        changed = none if update.changed is None else update.changed
        self._slots = apply_changes(self._slots, added, changed, update.removed)
        self._next_slot = max(self._next_slot, next_slot(added))
        return self._slots.num_rows

    def commit(self, commit: Commit) -> int:
        self._slots = aged(self._slots.combine_chunks(), commit.stage)
        return self._slots.num_rows

    def slots(self) -> pa.Table:
        self._slots = self._slots.combine_chunks()
        return self._slots


class TimedMemory:
    """The actor's client beside a plain memory; how long each takes."""

    def __init__(self, memory: Any, plain: PlainMemory) -> None:
        self._memory = memory
        self._plain = plain
        self.durable_s = 0.0
        self.plain_s = 0.0

    def begin(self, driver: str) -> Position:
        return self._memory.begin(driver)

    def last_commit(self) -> tuple[int, dict[str, bytes]] | None:
        return self._memory.last_commit()

    def apply(self, update: Update) -> Ack:
        return self._both(lambda m: m.apply(update))

    def commit(self, commit: Commit) -> Ack:
        return self._both(lambda m: m.commit(commit))

    def slots(self) -> pa.Table:
        return self._both(lambda m: m.slots())

    def _both(self, call: Callable[[Any], Any]) -> Any:
        begin_s = time.perf_counter()
        call(self._plain)
        between_s = time.perf_counter()
        answer = call(self._memory)
        self.plain_s += between_s - begin_s
        self.durable_s += time.perf_counter() - between_s
        return answer


def overhead(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    import ray
    import torch

    from diet_ray.cluster import connect
    from diet_ray.data.log import PreparedLog
    from diet_ray.data.prepare import prepare
    from diet_ray.data.sources.config import SourceConfig
    from diet_ray.data.sources.synthetic import SyntheticConfig, write_synthetic
    from diet_ray.data.stages import StageConfig
    from diet_ray.distillation.budget import BudgetConfig
    from diet_ray.distillation.config import DistillConfig
    from diet_ray.distillation.pipeline import Distiller, Watcher, resume, slot_budgets
    from diet_ray.influence.pool import ScoringPool
    from diet_ray.memory.actor import MemoryClient

    torch.set_num_threads(1)
    num_rows = arguments.stages * arguments.stage_rows
    write_synthetic(SyntheticConfig(num_rows=num_rows, seed=0), folder / "source")
    config = DistillConfig(
        schema=SCHEMA,
        source=SourceConfig(paths=(str(folder / "source"),)),
        stages=StageConfig(by="rows", rows=arguments.stage_rows, test_fraction=0.0),
        budget=BudgetConfig(slots=arguments.slots),
    )
    connect(num_cpus=2, object_store_bytes=1024**3, include_dashboard=False)
    prepare(config.source, Schema.load(SCHEMA), config.stages, folder / "log", lambda n: None)
    log = PreparedLog.open(str(folder / "log"))
    client = MemoryClient(folder / "memory", log.schema)
    memory = TimedMemory(client, PlainMemory(log.schema))
    position = memory.begin("benchmark")
    state = resume(log, config, memory)
    stages = log.train_stages
    budgets = slot_budgets(log, config)
    with ScoringPool(log, stages, config.lead, config.influence, budgets, config.seed) as pool:
        watcher = Watcher(on_stage=lambda record: note(f"stage {record.stage}"))
        begin_s = time.perf_counter()
        Distiller(log, config, state, pool, memory, position, watcher).run(stages)
        took_s = time.perf_counter() - begin_s
    client.close()
    ray.shutdown()
    others_s = took_s - memory.durable_s - memory.plain_s
    return {
        "durability_overhead": round((memory.durable_s - memory.plain_s) / others_s, 4),
        "durable_s_per_stage": round(memory.durable_s / len(stages), 3),
        "plain_s_per_stage": round(memory.plain_s / len(stages), 3),
        "stage_s": round(others_s / len(stages), 3),
        "stage_rows": arguments.stage_rows,
        "slots": state.records[-1].slots,
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--slots", type=int, default=100_000)
    parser.add_argument("--recovered-slots", type=int, default=1_000_000)
    parser.add_argument("--stages", type=int, default=3)
    parser.add_argument("--stage-rows", type=int, default=500_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of sending updates")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary one")
    parser.add_argument("--json", action="store_true", help="on one line")
    return parser.parse_args()


if __name__ == "__main__":
    print_report(parse(), measure)
