"""What was acknowledged, and so may never be missing or be there twice."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from diet_ray.memory.snapshot import read_committed
from diet_ray.memory.update import Ack, Position
from diet_ray.storage import Folder
from tests.chaos.faults import Violation


class Ledger:
    """Kept by the side that gets the acknowledgements, over all drivers of a schedule."""

    def __init__(self, stages: dict[int, pa.Table]) -> None:
        """`stages` are the slots that each stage ends with when nothing happens."""
        self._stages = stages
        self._epoch = 0
        self._next: dict[int, int] = {}
        self._committed = -1
        self._applied: Counter[tuple[int, int, int]] = Counter()
        self.num_acknowledged = 0

    def begun(self, position: Position) -> None:
        """A driver has taken over: what was not committed is void, and will be done again."""
        self._epoch = position.epoch
        self._next = {}
        self._require(position)

    def acknowledged(self, ack: Ack, *, is_commit: bool) -> None:
        self.num_acknowledged += 1
        key = (ack.epoch, ack.stage, ack.sequence)
        self._applied[key] += not ack.repeated
        if self._applied[key] > 1:
            raise Violation(f"message {key} was applied {self._applied[key]} times")
        if is_commit:
            self._committed = max(self._committed, ack.stage)
            self._next = {}
        else:
            self._next[ack.stage] = max(self._next.get(ack.stage, 0), ack.sequence + 1)

    def check(self, position: Position) -> None:
        """Holds a memory that has just been opened against what it had acknowledged."""
        if position.epoch < self._epoch:
            raise Violation(f"epoch {position.epoch} after {self._epoch} was given out")
        self._require(position)
        for stage, following in self._next.items():
            is_open = position.open_stage == stage and position.next_sequence >= following
            if position.epoch == self._epoch and not is_open and not _is_done(position, stage):
                raise Violation(
                    f"update {following - 1} of stage {stage} was acknowledged and is lost: "
                    f"{position}"
                )

    def _require(self, position: Position) -> None:
        if not _is_done(position, self._committed):
            raise Violation(f"stage {self._committed} was acknowledged and is lost: {position}")

    def check_readers(self, folder: Folder) -> None:
        """Holds what a reader sees against the undisturbed run."""
        found = read_committed(folder)
        stage = -1 if found is None else found[0].stage
        if stage < self._committed:
            raise Violation(f"readers see stage {stage} after {self._committed} was acknowledged")
        if found is not None and not found[1].equals(self._stages[stage]):
            raise Violation(f"readers see a stage {stage} that no undisturbed run has")

    def forgive(self, last_good: int | None) -> None:
        """Storage lied about what it wrote, and a person went back to the last good stage."""
        self._committed = -1 if last_good is None else min(self._committed, last_good)
        self._next = {}
        self._epoch = 0
        self._applied.clear()


def _is_done(position: Position, stage: int) -> bool:
    return stage < 0 or (position.committed_stage is not None and position.committed_stage >= stage)
