"""A small schema, made-up slots of it, and a driver that sends messages without distilling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import pyarrow as pa

from diet_ray.data.schema import Field, Label, Schema, Timestamp
from diet_ray.memory.slots import from_columns, slot_schema, to_columns
from diet_ray.memory.update import Ack, Commit, Position, Update

NUM_IDS = 50


def click_schema() -> Schema:
    return Schema(
        timestamp=Timestamp(column="time"),
        label=Label(column="click"),
        fields=(
            Field(name="user", kind="categorical"),
            Field(name="item", kind="categorical"),
            Field(name="price", kind="numeric"),
            Field(name="watched", kind="sequence", history_of="item", user="user", max_length=3),
        ),
    )


def make_slots(n: int, *, first_slot: int = 0, stage: int = 0, seed: int = 0) -> pa.Table:
    """n random slots born in `stage`; strata 2s + label for s in 0..2."""
    draw = np.random.default_rng([seed, stage, first_slot])
    label = draw.integers(0, 2, n)
    columns = {
        "_row": 1000 * stage + np.arange(n),
        "_timestamp": 10**9 * stage + np.sort(draw.integers(0, 10**6, n)),
        "_label": label,
        "_stratum": label + 2 * draw.integers(0, 3, n),
        "user": draw.integers(1, NUM_IDS, n),
        "item": draw.integers(1, NUM_IDS, n),
        "price": draw.normal(size=n),
        "watched": draw.integers(0, NUM_IDS, (n, 3)),
        "_slot": first_slot + np.arange(n),
        "_birth_stage": np.full(n, stage),
        "_age": np.zeros(n),
        "_soft_label": draw.normal(size=n),
        "_residual": draw.uniform(-1, 1, n),
        "_weight": draw.uniform(0.5, 20.0, n),
        "_influence": draw.uniform(0, 1, n),
        "_key": draw.exponential(size=n),
    }
    return from_columns(columns, slot_schema(click_schema()))


class Memory(Protocol):
    """What a driver sees: a store, or a client of the actor."""

    def begin(self, driver: str) -> Position: ...
    def apply(self, update: Update) -> Ack: ...
    def commit(self, commit: Commit) -> Ack: ...
    def slots(self) -> pa.Table: ...
    def last_commit(self) -> tuple[int, dict[str, bytes]] | None: ...


class Driver:
    """Distils stages in order: new slots, changed ones, removed ones, commit. Resumes by itself."""

    def __init__(self, num_stages: int = 3, before_call: Callable[[int, int], None] | None = None):
        self.num_stages = num_stages
        self._before_call = before_call or (lambda stage, sequence: None)

    def run(self, memory: Memory, name: str = "driver") -> None:
        position = memory.begin(name)
        committed = memory.last_commit()
        first = 0 if committed is None else committed[0] + 1
        counter = 0 if committed is None else int(committed[1]["counter"])
        next_slot = position.next_slot
        for stage in range(first, self.num_stages):
            for sequence in range(3):
                update = self.update(memory.slots(), position.epoch, stage, sequence, next_slot)
                self._before_call(stage, sequence)
                next_slot = memory.apply(update).next_slot
                counter += sequence + 1
            self._before_call(stage, 3)
            state = {"counter": str(counter).encode(), "proxy.safetensors": bytes([stage]) * 50}
            memory.commit(Commit(epoch=position.epoch, stage=stage, sequence=3, state=state))

    @staticmethod
    def update(slots: pa.Table, epoch: int, stage: int, sequence: int, next_slot: int) -> Update:
        if sequence == 0:
            new = make_slots(6, first_slot=next_slot, stage=stage)
            return Update(epoch=epoch, stage=stage, sequence=sequence, added=new)
        if sequence == 1:
            columns = {k: v.copy() for k, v in to_columns(slots[::2]).items()}
            columns["_soft_label"] += 0.25
            changed = from_columns(columns, slots.schema)
            return Update(epoch=epoch, stage=stage, sequence=sequence, changed=changed)
        numbers = slots["_slot"].to_numpy()
        return Update(epoch=epoch, stage=stage, sequence=sequence, removed=numbers[-2:])
