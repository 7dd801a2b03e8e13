"""Distillation over a stream of stages: each trained on, scored, addressed, refined, committed.

While the proxy trains on a stage, scorers read the same stage under the proxy's weights of its
start. One commit a stage holds the slots and everything that going on bit for bit needs, so a run
that is killed anywhere goes on from its last committed stage. Scorers and memory are seen through
their interfaces alone: on a cluster they are actors, in a test plain objects.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from diet_ray.data.batch import Batch
from diet_ray.data.log import PreparedLog, Stage
from diet_ray.distillation.config import DistillConfig
from diet_ray.distillation.proxy import Proxies
from diet_ray.distillation.retention import RowSample, StageSampler, merge
from diet_ray.distillation.stage import (
    addressed_slots,
    propose_slots,
    refine_slots,
    relabelled,
)
from diet_ray.distillation.stream import StageRecord, StreamState
from diet_ray.errors import ConfigError
from diet_ray.influence.reservoir import first_drawn
from diet_ray.influence.shard_scores import StageScores
from diet_ray.memory.fusion import fuse
from diet_ray.memory.update import Ack, Commit, Position, Update
from diet_ray.training.metrics import log_loss


class Scorer(Protocol):
    def publish(self, stage: int, state: dict[str, Tensor]) -> None:
        """Gives out the weights under which a stage is scored, which begins then."""

    def results(self, stage: int) -> StageScores:
        """The stage's scores; waits for them."""


class Memory(Protocol):
    def begin(self, driver: str) -> Position: ...

    def apply(self, update: Update) -> Ack: ...

    def commit(self, commit: Commit) -> Ack: ...

    def slots(self) -> pa.Table: ...

    def last_commit(self) -> tuple[int, dict[str, bytes]] | None: ...


MAX_HELD_OUT = 0.2
"""No larger share of a stage is kept from the proxies."""

STEPS = ("published", "trained", "scored", "added", "refined", "fused", "committed")
"""The points of a stage at which `Watcher.on_step` is called."""


@dataclass(frozen=True, kw_only=True)
class Watcher:
    """Who watches a run; each call may do nothing."""

    on_rows: Callable[[int], None] = lambda num_rows: None
    """Rows that the proxy was just trained on."""
    on_step: Callable[[int, str], None] = lambda stage, step: None
    on_stage: Callable[[StageRecord], None] = lambda record: None


def slot_budgets(log: PreparedLog, config: DistillConfig) -> dict[int, int]:
    """Slots that each train stage proposes, at least one for each of its strata.

    Raises `ConfigError` if the whole budget is below one slot a stratum.
    """
    capacity = config.budget.capacity(log.num_train_rows)
    num_strata = int(np.sum(np.sum([s.strata for s in log.train_stages], axis=0) > 0))
    if capacity < num_strata:
        raise ConfigError(
            f"budget: {capacity} slots for {log.num_train_rows} rows are fewer than the "
            f"{num_strata} strata of the log: set a larger `fraction` or `slots`"
        )
    budgets, rows_seen = {}, 0
    for stage in log.train_stages:
        num_strata = int(np.count_nonzero(stage.strata))
        budgets[stage.index] = config.budget.drawn(rows_seen, stage.num_rows, num_strata)
        rows_seen += stage.num_rows
    return budgets


def capacity_at(log: PreparedLog, config: DistillConfig, rows_seen: int) -> int:
    """Slots allowed after so many rows: the budget, and at the beginning of a stream no less than
    one slot a stratum."""
    return max(config.budget.capacity(rows_seen), min(rows_seen, log.num_strata))


def resume(
    log: PreparedLog, config: DistillConfig, memory: Memory, device: str = "cpu"
) -> StreamState:
    """The state after the memory's last commit, or that of a run that begins."""
    committed = memory.last_commit()
    first = log.train_stages[0].index if committed is None else committed[0]
    proxies = Proxies(config.proxies, log.features_at(first), config.seed, device)
    if committed is None:
        return StreamState(proxies=proxies)
    return StreamState.from_blobs(proxies, committed[1])


def remaining_stages(log: PreparedLog, state: StreamState) -> tuple[Stage, ...]:
    """Train stages after the last committed one."""
    done = state.records[-1].stage if state.records else -1
    return tuple(s for s in log.train_stages if s.index > done)


class Distiller:
    """Owner of a run: takes stages in order, and leaves each committed."""

    def __init__(
        self,
        log: PreparedLog,
        config: DistillConfig,
        state: StreamState,
        scorer: Scorer,
        memory: Memory,
        position: Position,
        watcher: Watcher,
    ) -> None:
        """`position` is what the memory's `begin` answered; `state` that of its last commit."""
        self.log = log
        self.config = config
        self.state = state
        self._scorer = scorer
        self._memory = memory
        self._epoch = position.epoch
        self._next_slot = position.next_slot
        self._watcher = watcher
        self._budgets = slot_budgets(log, config)

    def run(self, stages: Sequence[Stage]) -> None:
        """Distils `stages`, in order."""
        for stage in stages:
            begin_s = time.perf_counter()
            record = self._distil(stage)
            self.state.records.append(record)
            self.state.seconds += time.perf_counter() - begin_s
            self._memory.commit(
                Commit(epoch=self._epoch, stage=stage.index, sequence=3, state=self.state.blobs())
            )
            self._watcher.on_step(stage.index, "committed")
            self._watcher.on_stage(record)
            if record.clipped_rows:
                warnings.warn(
                    f"stage {record.stage}: {record.clipped_rows} of {record.rows} rows have "
                    "gradients so large that they were clipped; see `influence: clip_ratio`",
                    stacklevel=2,
                )

    def _distil(self, stage: Stage) -> StageRecord:
        state, config, number = self.state, self.config, stage.index
        features = self.log.features_at(number)
        state.proxies.grow(features)
        lead = state.proxies.lead
        before = lead.snapshot()
        self._scorer.publish(number, lead.weights())
        self._step(number, "published")

        honest, held_out, loss, sample = self._train(stage)
        self._step(number, "trained")
        scores = self._scorer.results(number)
        self._step(number, "scored")

        added = propose_slots(
            scores,
            honest,
            held_out,
            stage.first_row,
            state.proxies.predict,
            features,
            stage=number,
            next_slot=self._next_slot,
        )
        ack = self._memory.apply(Update(epoch=self._epoch, stage=number, sequence=0, added=added))
        self._next_slot = ack.next_slot
        self._step(number, "added")

        slots = relabelled(self._memory.slots(), state.proxies.predict, features)
        addressed = addressed_slots(slots, scores, before, features, config)
        capacity = capacity_at(self.log, config, state.rows_seen + stage.num_rows)
        refined = refine_slots(
            slots,
            addressed,
            sample,
            state.retained,
            [before, lead.model],
            features,
            config,
            stage=number,
            residual_share=math.sqrt(capacity / (state.rows_seen + stage.num_rows)),
            gradient_norm=state.gradient_norm,
        )
        self._memory.apply(
            Update(epoch=self._epoch, stage=number, sequence=1, changed=refined.changed)
        )
        self._step(number, "refined")

        fused = fuse(self._memory.slots(), capacity, config.fusion)
        ack = self._memory.apply(
            Update(
                epoch=self._epoch,
                stage=number,
                sequence=2,
                changed=fused.changed,
                removed=fused.removed,
            )
        )
        self._step(number, "fused")

        state.retained = merge(state.retained, sample, config.retained_rows, config.seed)
        state.gradient_norm = refined.gradient_norm
        return StageRecord(
            stage=number,
            rows=stage.num_rows,
            rows_seen=state.rows_seen + stage.num_rows,
            slots=ack.num_slots,
            proposed=added.num_rows,
            addressed=len(addressed),
            fused=len(fused.removed),
            refinement_accepted=refined.accepted,
            refinement_loss_before=refined.loss_before,
            refinement_loss_after=refined.loss_after,
            mean_influence=scores.mean_influence,
            progressive_log_loss=loss,
            bytes_received=scores.num_bytes,
            clipped_rows=scores.num_clipped,
        )

    def _train(self, stage: Stage) -> tuple[np.ndarray, np.ndarray, float, RowSample]:
        """Trains the proxies on a stage.

        Returns, by row of the stage, the honest logits (NaN where held out) and which rows are held
        out; the log loss of the honest logits; and a sample of rows.
        """
        config = self.config
        sampler = StageSampler(stage.first_row, stage.num_rows, config.retained_rows, config.seed)
        num_slots = self._budgets[stage.index]
        share = min(MAX_HELD_OUT, config.held_out_factor * num_slots / stage.num_rows)
        rows = np.arange(stage.first_row, stage.first_row + stage.num_rows, dtype=np.int64)
        held_out = torch.from_numpy(first_drawn(config.seed, rows, share))
        if bool(held_out.all()):
            # There is no training on nothing.
            held_out[-1] = False

        def on_batch(batch: Batch) -> None:
            sampler(batch)
            self._watcher.on_rows(len(batch))

        logits, labels = self.state.proxies.train_stage(
            lambda: self.log.batches([stage]), held_out, on_batch
        )
        honest = torch.full((stage.num_rows,), torch.nan)
        honest[~held_out] = logits
        return honest.numpy(), held_out.numpy(), log_loss(labels, logits), sampler.sample()

    def _step(self, stage: int, step: str) -> None:
        self._watcher.on_step(stage, step)
