"""Influence scores of a log's stages, from one pool of actors for all of them.

The driver publishes a stage's weights, which opens it to the scorers, trains on it, and collects
the stage's scores. Results are merged in the order of the log, so they don't depend on how many
scorers there are, on scheduling, or on a scorer that died and did its shard again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import ray
import torch
from torch import Tensor

from diet_ray.data.log import PreparedLog, Shard, Stage
from diet_ray.errors import DataError
from diet_ray.influence.config import InfluenceConfig
from diet_ray.influence.gate import Gate
from diet_ray.influence.reservoir import Reservoir
from diet_ray.influence.scorer import Task
from diet_ray.influence.shard_pool import ShardPool
from diet_ray.influence.shard_scores import ShardScores, StageScores, merge, score_shard
from diet_ray.models.base import Recommender
from diet_ray.models.catalogue import Candidate, build


@dataclass(frozen=True, kw_only=True)
class ScoreTask:
    """Makes the task that scores a shard under its stage's weights."""

    gate: Any
    log: PreparedLog
    candidate: Candidate
    config: InfluenceConfig
    reservoirs: Mapping[int, Reservoir]

    def __call__(self) -> Task:
        # Bits depend on the number of threads.
        torch.set_num_threads(1)
        return _ShardScorer(self)


class _ShardScorer:
    """Keeps the model of one stage, from one shard to the next."""

    def __init__(self, task: ScoreTask) -> None:
        self._task = task
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model: tuple[int, Recommender] | None = None
        self._computing = threading.Lock()

    def __call__(self, shard: Shard) -> bytes | None:
        """Nothing if the stage's weights are gone: then nobody waits for it."""
        task = self._task
        weights = ray.get(task.gate.weights.remote(shard.stage))
        if not weights:
            return None
        table = task.log.read_shard(shard)
        # Another thread reads its shard meanwhile; one at a time uses the device's memory.
        with self._computing:
            model = self._load(shard.stage, weights[0])
            features = task.log.features_at(shard.stage)
            try:
                return score_shard(
                    model, features, table, task.config, task.reservoirs[shard.stage]
                ).to_bytes()
            except DataError as e:
                raise DataError(f"{shard.file}, rows from {shard.first_row}: {e}") from None

    def _load(self, stage: int, weights: ray.ObjectRef) -> Recommender:
        if self._model is None or self._model[0] != stage:
            model = build(self._task.candidate, self._task.log.features_at(stage), seed=0)
            arrays: dict[str, np.ndarray] = ray.get(weights)
            model.load_state_dict({name: torch.tensor(a) for name, a in arrays.items()})
            self._model = stage, model.requires_grad_(False).to(self._device)
        return self._model[1]


class ScoringPool:
    """Scores `stages` in order on a pool of actors. A context manager; use one thread.

    `publish` opens a stage, in any order, and `results` waits for it. Raises `ConfigError` if the
    budget of a stage is below its non-empty strata, and on entering `ClusterError` if the cluster
    has no room for the scorers.

    budgets: slots by stage index.
    """

    def __init__(
        self,
        log: PreparedLog,
        stages: Sequence[Stage],
        candidate: Candidate,
        config: InfluenceConfig,
        budgets: Mapping[int, int],
        seed: int,
    ) -> None:
        self._log = log
        self._stages = {s.index: s for s in stages}
        self._candidate = candidate
        self._config = config
        self._reservoirs = {
            s.index: Reservoir.of_stage(s.strata, budgets[s.index], config.defensive_share, seed)
            for s in stages
        }
        self._stage_of = {shard.index: s.index for s in stages for shard in s.shards}
        self._received: dict[int, dict[int, bytes]] = {s.index: {} for s in stages}
        self._published: set[int] = set()
        self._failure: DataError | None = None
        self._gate: Any = None
        self._pool: ShardPool | None = None

    def __enter__(self) -> ScoringPool:
        if not self._stages:
            return self
        self._gate = Gate.start()
        make_task = ScoreTask(
            gate=self._gate,
            log=self._log,
            candidate=self._candidate,
            config=self._config,
            reservoirs=self._reservoirs,
        )
        shards = [shard for stage in self._stages.values() for shard in stage.shards]
        self._pool = ShardPool(shards, make_task, self._config, "influence scoring", self._gate)
        try:
            self._pool.__enter__()
        except BaseException:
            ray.kill(self._gate)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.close()
            ray.kill(self._gate)

    @property
    def is_running(self) -> bool:
        """Whether the execution hasn't ended."""
        return self._pool is not None and self._pool.is_running

    def publish(self, stage_index: int, state: Mapping[str, Tensor]) -> None:
        """Opens a stage to be scored under `state`, the proxy's weights as the stage begins.

        They are for the features that `log.features_at(stage_index)` gives. They are copied, so
        training may go on at once.
        """
        assert stage_index in self._stages, f"stage {stage_index} isn't among the pool's"
        assert stage_index not in self._published, f"stage {stage_index} is published already"
        self._published.add(stage_index)
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in state.items()}
        # Not waited for: the driver has a stage to train on. A dead gate ends the execution.
        self._gate.publish.remote(stage_index, [ray.put(arrays)])

    def results(
        self, stage_index: int, on_shard: Callable[[Shard], None] | None = None
    ) -> StageScores:
        """Waits for all shards of a published stage, once; calls `on_shard` as each is in.

        Raises `DataError` naming a shard that can't be read or scored, and `ClusterError` if
        scoring stopped.
        """
        assert stage_index in self._published, f"stage {stage_index} isn't published"
        stage, received = self._stages[stage_index], self._received[stage_index]
        reported: set[int] = set()
        while True:
            for shard in stage.shards:
                if shard.index in received and shard.index not in reported:
                    reported.add(shard.index)
                    if on_shard is not None:
                        on_shard(shard)
            if len(received) == len(stage.shards):
                break
            self._receive()
        del self._received[stage_index]
        self._gate.retire.remote(stage_index)
        return _merge_bytes(
            [received[s.index] for s in stage.shards], self._reservoirs[stage_index]
        )

    def _receive(self) -> None:
        assert self._pool is not None
        if self._failure is not None:
            raise self._failure
        result = self._pool.next()
        if result.error is not None:
            # A stage with a hole would change the memory unnoticed. Whoever asks again gets this.
            self._failure = DataError(result.error)
            raise self._failure
        received = self._received.get(self._stage_of[result.shard])
        if received is not None and result.content is not None:
            received.setdefault(result.shard, result.content)


def _merge_bytes(shards: Sequence[bytes], reservoir: Reservoir) -> StageScores:
    num_bytes = sum(map(len, shards))
    return merge([ShardScores.from_bytes(s) for s in shards], reservoir, num_bytes)
