"""A pool of actors that maps a function over a log's shards, in one Ray Data execution.

An execution takes seconds to start its actors, so a run has one: a single read task gives out the
shards in order, and waits at a gate before each stage if there is one. Only that task ever waits,
and it holds no CPU, so nothing can deadlock; and an actor is idle only when there is nothing to do.

Results come in any order and are told apart by shard. What an actor was doing when it died is given
out again, and counted once.
"""

from __future__ import annotations

import gc
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.data.context import AutoscalingConfig

from diet_ray.cluster import (
    free,
    num_free_places,
    num_gpus,
    num_places,
    require_places,
    this_node,
)
from diet_ray.data.log import Shard
from diet_ray.errors import ClusterError
from diet_ray.influence.attempts import MAX_ATTEMPTS, Attempts
from diet_ray.influence.config import PoolConfig
from diet_ray.influence.gate import ShardSource
from diet_ray.influence.scorer import Job, Scorer, Task
from diet_ray.influence.watch import Ended, NoPlace, Step, Watch

MAX_WAITING_RESULTS = 8
"""Results that wait on the driver for their consumer; more stay with Ray, which stops scorers when
its store is full."""
SHUTDOWN_TIMEOUT_S = 60.0
POLL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class ShardResult:
    shard: int
    """Its index."""
    content: bytes | None
    """What the task returned."""
    error: str | None
    """Why there is none; names the shard."""


class ShardPool:
    """Runs a task on every shard, on a pool of actors. A context manager; use one thread.

    make_task: called once in each actor, so it must be picklable; what it returns is the task.
    purpose: what the pool is for, in messages.
    gate: a `Gate` actor that opens stages; None: all are open.

    A `DietError` of a task, and the death of `MAX_ATTEMPTS` actors on a shard, are results with an
    `error`; the pool goes on. Entering raises `ClusterError` if the cluster has no room.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        make_task: Callable[[], Task],
        config: PoolConfig,
        purpose: str,
        gate: Any | None = None,
    ) -> None:
        self._shards = tuple(shards)
        self._make_task = make_task
        self._config = config
        self._purpose = purpose
        self._gate = gate
        self._attempts: Any = None
        self._watch: Watch | None = None
        self._puller: threading.Thread | None = None
        self._arrived: queue.Queue[ShardResult | None] = queue.Queue(MAX_WAITING_RESULTS)
        self._num_taken = 0
        self._failure: ClusterError | None = None

    def __enter__(self) -> ShardPool:
        if not self._shards:
            return self
        size = self._config.cpus_per_scorer, self._gpus_per_scorer
        num_scorers = self._num_scorers()
        require_places(num_scorers, *size, self._purpose)
        is_busy = num_free_places(*size) == 0
        self._attempts = Attempts.start()
        self._watch = Watch(self._purpose, *size, self._config.start_timeout_s)
        self._puller = threading.Thread(
            target=self._pull,
            args=(self._dataset(num_scorers), self._watch),
            name=self._purpose,
            daemon=True,
        )
        self._puller.start()
        if is_busy:
            # What can't start is refused now, not when the first result is asked for.
            self._watch.started.wait()
            if self._failure is not None:
                self.close()
                raise self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the execution; scorers end the shards that they hold."""
        if self._puller is None or self._watch is None:
            return
        self._watch.ended.set()
        self._puller.join(SHUTDOWN_TIMEOUT_S)
        # Ray Data ends its actors by dropping their handles, which may lie in a cycle of an
        # exception and its frames, and would keep their CPUs until somebody looks for cycles.
        gc.collect()
        ray.kill(self._attempts)

    @property
    def is_running(self) -> bool:
        """Whether the execution hasn't ended."""
        return self._puller is not None and self._puller.is_alive()

    def arrivals(self) -> Iterator[ShardResult]:
        """All results that weren't taken yet, as they come. Raises what `next` raises."""
        while self._num_taken < len(self._shards):
            yield self.next()

    def next(self) -> ShardResult:
        """Waits for a result. Raises `ClusterError` if the execution has stopped."""
        result = self._arrived.get()
        if result is None:
            # Whoever asks again gets the same answer.
            self._arrived.put(None)
            assert self._failure is not None
            raise self._failure
        self._num_taken += 1
        return result

    def _pull(self, dataset: Dataset, watch: Watch) -> None:
        """Moves results from the execution to the queue, in a thread of its own."""
        failure = ClusterError(f"{self._purpose} has ended: there are no more shards")
        try:
            with watch.over_this_thread():
                for block in dataset.iter_batches(
                    batch_size=None, batch_format="pyarrow", prefetch_batches=0
                ):
                    for row in block.to_pylist():
                        self._hand_over(ShardResult(**row))
        except Ended:
            pass
        except NoPlace as e:
            failure = ClusterError(str(e))
        except Exception as e:
            failure = ClusterError(f"{self._purpose} stopped: {_line(e)}")
            failure.__cause__ = e
        self._failure = failure
        watch.started.set()
        self._hand_over(None)

    def _hand_over(self, result: ShardResult | None) -> None:
        """Waits for a place in the queue, or the pool's end."""
        assert self._watch is not None
        while not self._watch.ended.is_set():
            with suppress(queue.Full):
                self._arrived.put(result, timeout=POLL_S)
                return

    def _dataset(self, num_scorers: int) -> Dataset:
        context = DataContext.get_current().copy()
        # A block leaves an operator once it is larger than this: at once. By default Ray Data
        # gathers 128 MiB, so that a stage would wait for the one behind a closed gate.
        context.target_max_block_size = 1
        # The driver may do other work for as long as it likes; `Watch` knows when waiting is vain.
        context.execution_no_progress_timeout_s = -1
        context.custom_execution_callback_classes = [Step]
        # A scorer that dies as it starts is replaced as well.
        context.max_consecutive_actor_init_deaths = MAX_ATTEMPTS - 1
        # No scorer is sent more shards than it works on, so it's never busier than this.
        context.autoscaling_config = AutoscalingConfig(actor_pool_util_upscaling_threshold=1.0)
        # Nobody reads what actors would measure of their own memory.
        context.memory_usage_poll_interval_s = None
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        in_flight = self._shards_in_flight
        max_scorers = self._config.max_scorers or num_scorers
        # By reference: Ray Data looks a scorer up by its arguments.
        job = ray.put(
            Job(
                make_task=self._make_task,
                attempts=self._attempts,
                shards=self._shards,
                shards_in_flight=in_flight,
            )
        )
        with DataContext.current(context):
            return ray.data.read_datasource(
                ShardSource(self._shards, self._gate),
                override_num_blocks=1,
                num_cpus=0,
                label_selector=this_node(),
            ).map_batches(
                Scorer,
                fn_constructor_args=(job,),
                batch_size=1,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(
                    min_size=num_scorers,
                    max_size=max(num_scorers, min(max_scorers, len(self._shards))),
                    max_tasks_in_flight_per_actor=in_flight,
                    max_concurrent_calls_per_actor=in_flight,
                    enable_true_multi_threading=True,
                ),
                num_cpus=self._config.cpus_per_scorer,
                **({"num_gpus": self._gpus_per_scorer} if self._gpus_per_scorer else {}),
            )

    def _num_scorers(self) -> int:
        size = self._config.cpus_per_scorer, self._gpus_per_scorer
        if self._config.num_scorers != "auto":
            wanted = self._config.num_scorers
        else:
            wanted = min(num_free_places(*size), num_places(*size))
            if not self._gpus_per_scorer:
                # The driver trains on the other one.
                wanted = min(wanted, int(free("CPU")) - 1)
            if self._config.max_scorers is not None:
                wanted = min(wanted, self._config.max_scorers)
        return max(1, min(wanted, len(self._shards)))

    @cached_property
    def _gpus_per_scorer(self) -> float:
        return self._config.gpus_per_scorer if num_gpus() else 0.0

    @property
    def _shards_in_flight(self) -> int:
        if self._config.shards_in_flight != "auto":
            return self._config.shards_in_flight
        return 2


def _line(error: BaseException) -> str:
    """The innermost reason, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
