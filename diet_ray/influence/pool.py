"""Influence scores of many stages from one Ray Data execution.

An execution takes seconds to start its actors, so all stages share one: a single read task yields a
descriptor (stage, shard) at a time and waits at a gate before each stage until the driver has
published the weights to score it with; a pool of scorer actors maps descriptors to shard scores.
Only the reader ever waits, and it holds no CPU, so nothing can deadlock; and a scorer is idle
only when there is nothing to score.

Results come in any order, are told apart by shard, and are merged in the order of the log, so they
don't depend on how many scorers there are, on scheduling, or on a scorer that died and did its
shard again.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from ray.data import ActorPoolStrategy, DataContext, Dataset, Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask
from torch import Tensor

from diet_ray.cluster import num_gpus, require_cpus
from diet_ray.data.log import PreparedLog, Shard, Stage
from diet_ray.errors import ClusterError, DataError, DietError
from diet_ray.influence.config import InfluenceConfig
from diet_ray.influence.reservoir import Reservoir
from diet_ray.influence.shard_scores import ShardScores, StageScores, merge, score_shard
from diet_ray.models.base import Recommender
from diet_ray.models.catalogue import Candidate, build

SHUTDOWN_TIMEOUT_S = 60.0
"""A scorer that is within a shard ends it first."""

_RESULT = pa.schema(
    {"shard": pa.int64(), "scores": pa.large_binary(), "error": pa.string()},
)


class Gate:
    """Which stages are open, and the weights to score them with. Runs as an asyncio actor."""

    def __init__(self) -> None:
        self._weights: dict[int, list[ray.ObjectRef]] = {}
        self._published: set[int] = set()
        self._closed = False
        self._changed = asyncio.Condition()

    async def publish(self, stage: int, weights: list[ray.ObjectRef]) -> None:
        """Opens a stage; `weights` is a list of one reference, so that Ray passes it unread."""
        async with self._changed:
            self._weights[stage] = weights
            self._published.add(stage)
            self._changed.notify_all()

    async def wait(self, stage: int) -> bool:
        """Returns once the stage is open, True, or the gate is closed for good, False."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or stage in self._published)
            return not self._closed

    async def weights(self, stage: int) -> list[ray.ObjectRef]:
        """As published; nothing if the stage is retired or the gate closed."""
        return [] if self._closed else self._weights.get(stage, [])

    async def retire(self, stage: int) -> None:
        """Lets go of a stage's weights: all its shards are in."""
        self._weights.pop(stage, None)

    async def close(self) -> None:
        async with self._changed:
            self._closed = True
            self._changed.notify_all()


class ShardSource(Datasource):
    """One read task: a block for every shard, stage by stage, each as the gate opens it."""

    def __init__(self, gate: Any, shards: Sequence[tuple[int, tuple[int, ...]]]) -> None:
        super().__init__()
        self._gate = gate
        self._shards = tuple(shards)

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,
    ) -> list[ReadTask]:
        gate, shards = self._gate, self._shards

        def read() -> Iterator[pa.Table]:
            for stage, indices in shards:
                if not ray.get(gate.wait.remote(stage)):
                    return
                for shard in indices:
                    yield pa.table({"stage": [stage], "shard": [shard]})

        unknown = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None)
        return [ReadTask(read, unknown)]


class Scorer:
    """What an actor of the pool runs: descriptors in, `_RESULT` rows out."""

    def __init__(
        self,
        gate: Any,
        log: PreparedLog,
        candidate: Candidate,
        config: InfluenceConfig,
        reservoirs: Mapping[int, Reservoir],
    ) -> None:
        # Bits depend on the number of threads.
        torch.set_num_threads(1)
        self._gate = gate
        self._log = log
        self._candidate = candidate
        self._config = config
        self._reservoirs = reservoirs
        self._shards = {s.index: s for stage in log.stages for s in stage.shards}
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model: tuple[int, Recommender] | None = None

    def __call__(self, request: pa.Table) -> pa.Table:
        stage, shard = request["stage"][0].as_py(), request["shard"][0].as_py()
        scores: bytes | None = None
        error: str | None = None
        try:
            weights = ray.get(self._gate.weights.remote(stage))
            if weights:
                scores = self._score(stage, self._shards[shard], weights[0])
        except DietError as e:
            # As a value: raised here, it would reach the driver inside Ray's own tracebacks.
            error = str(e)
        return pa.table([[shard], [scores], [error]], schema=_RESULT)

    def _score(self, stage: int, shard: Shard, weights: ray.ObjectRef) -> bytes:
        features = self._log.features_at(stage)
        if self._model is None or self._model[0] != stage:
            model = build(self._candidate, features, seed=0)
            arrays: dict[str, np.ndarray] = ray.get(weights)
            model.load_state_dict({name: torch.tensor(a) for name, a in arrays.items()})
            self._model = stage, model.requires_grad_(False).to(self._device)
        table = self._log.read_shard(shard)
        try:
            scores = score_shard(
                self._model[1], features, table, self._config, self._reservoirs[stage]
            )
        except DataError as e:
            raise DataError(f"{shard.file}, rows from {shard.first_row}: {e}") from None
        return scores.to_bytes()


class ScoringPool:
    """Scores `stages` in order on a pool of actors. A context manager; use one thread.

    `publish` opens a stage, in any order, and `results` waits for it. Raises `ConfigError` if the
    budget of a stage is below its non-empty strata, and on entering `ClusterError` if the cluster
    has too few CPUs.

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
        self._arrivals: queue.SimpleQueue[tuple[int, bytes] | DietError] = queue.SimpleQueue()
        self._gate: Any = None
        self._puller: threading.Thread | None = None

    def __enter__(self) -> ScoringPool:
        if not self._stages:
            return self
        num_scorers = self._num_scorers()
        require_cpus(num_scorers * self._config.cpus_per_scorer, "influence scoring")
        self._gate = ray.remote(num_cpus=0)(Gate).remote()
        dataset = self._dataset(num_scorers)
        self._puller = threading.Thread(
            target=self._pull, args=(dataset,), name="influence-results", daemon=True
        )
        self._puller.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._puller is None:
            return
        try:
            ray.get(self._gate.close.remote(), timeout=SHUTDOWN_TIMEOUT_S)
            self._puller.join(SHUTDOWN_TIMEOUT_S)
        except ray.exceptions.RayError:
            if error is None:
                raise ClusterError("influence scoring: the gate of the stages has died") from None
        finally:
            ray.kill(self._gate)

    @property
    def is_running(self) -> bool:
        """Whether the execution hasn't ended."""
        return self._puller is not None and self._puller.is_alive()

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
        arrival = self._arrivals.get()
        if isinstance(arrival, DietError):
            # Whoever asks again gets the same answer.
            self._arrivals.put(arrival)
            raise arrival
        shard, scores = arrival
        received = self._received.get(self._stage_of[shard])
        if received is not None:
            received.setdefault(shard, scores)

    def _pull(self, dataset: Dataset) -> None:
        """Moves results from the execution to the queue, in a thread of its own."""
        try:
            for block in dataset.iter_batches(
                batch_size=None, batch_format="pyarrow", prefetch_batches=0
            ):
                for shard, scores, error in zip(*(c.to_pylist() for c in block), strict=True):
                    if error is not None:
                        self._arrivals.put(DataError(error))
                    elif scores is not None:
                        self._arrivals.put((shard, scores))
        except Exception as e:
            failure = ClusterError(f"influence scoring stopped: {_line(e)}")
            failure.__cause__ = e
            self._arrivals.put(failure)
        else:
            self._arrivals.put(ClusterError("influence scoring ended before all shards were in"))

    def _dataset(self, num_scorers: int) -> Dataset:
        context = DataContext.get_current().copy()
        # A block leaves an operator once it is larger than this: at once. By default Ray Data
        # gathers 128 MiB, so that a stage would wait for the one behind a closed gate.
        context.target_max_block_size = 1
        # The driver trains for as long as it likes between two stages.
        context.execution_no_progress_timeout_s = -1
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        shards = [
            (s.index, tuple(shard.index for shard in s.shards)) for s in self._stages.values()
        ]
        gpus = {"num_gpus": self._config.gpus_per_scorer} if num_gpus() else {}
        with DataContext.current(context):
            return ray.data.read_datasource(
                ShardSource(self._gate, shards), override_num_blocks=1, num_cpus=0
            ).map_batches(
                Scorer,
                fn_constructor_args=(
                    self._gate,
                    self._log,
                    self._candidate,
                    self._config,
                    self._reservoirs,
                ),
                batch_size=1,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(size=num_scorers),
                num_cpus=self._config.cpus_per_scorer,
                **gpus,
            )

    def _num_scorers(self) -> int:
        if self._config.num_scorers != "auto":
            wanted = self._config.num_scorers
        elif num_gpus():
            wanted = int(num_gpus() / self._config.gpus_per_scorer)
        else:
            # The driver trains the proxy on the other one.
            wanted = int(ray.cluster_resources().get("CPU", 1)) - 1
        return max(1, min(wanted, len(self._stage_of)))


def _merge_bytes(shards: Sequence[bytes], reservoir: Reservoir) -> StageScores:
    num_bytes = sum(map(len, shards))
    return merge([ShardScores.from_bytes(s) for s in shards], reservoir, num_bytes)


def _line(error: BaseException) -> str:
    """The innermost reason, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
