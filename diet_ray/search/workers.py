"""The processes that runs are spread over, and plain Ray tasks on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import ray
import torch

from diet_ray.cluster import num_gpus, require_cpus
from diet_ray.errors import ClusterError, describe

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True, kw_only=True)
class WorkersConfig:
    """Processes that runs are spread over."""

    num_workers: int | None = None
    """As many as the cluster allows when left out, up to one a run."""
    cpus_per_worker: int = 1
    use_gpu: bool | None = None
    """One GPU a worker; when left out, if the cluster has any."""

    def __post_init__(self) -> None:
        if (self.num_workers is not None and self.num_workers < 1) or self.cpus_per_worker < 1:
            raise ValueError("num_workers and cpus_per_worker must be at least 1")

    def resolve(self, num_runs: int) -> WorkersConfig:
        """With all numbers filled in from the running cluster. Raises `ClusterError`."""
        use_gpu = num_gpus() >= 1 if self.use_gpu is None else self.use_gpu
        if use_gpu and num_gpus() < (self.num_workers or 1):
            raise ClusterError(
                f"{self.num_workers or 1} workers with a GPU each were asked for but the cluster "
                f"has {num_gpus():g} GPUs: ask for fewer workers or set `use_gpu: false`"
            )
        num_workers = self.num_workers
        if num_workers is None:
            fit = int(ray.cluster_resources().get("CPU", 0.0)) // self.cpus_per_worker
            num_workers = max(1, min(fit, num_runs, int(num_gpus()) if use_gpu else fit))
        require_cpus(
            num_workers * self.cpus_per_worker,
            f"training with {num_workers} workers of {self.cpus_per_worker} CPUs",
        )
        return replace(self, num_workers=num_workers, use_gpu=use_gpu)


def run_tasks(
    function: Callable[[Any, Item], Outcome],
    shared: Any,
    items: Sequence[Item],
    workers: WorkersConfig,
) -> list[Outcome | str]:
    """`function(shared, item)` for every item, `num_workers` at a time; results in item order.

    `shared` lies in the object store once; an ObjectRef is passed on as it is. An item that raises
    or whose process dies gives a line of text instead, the others go on.
    """
    reference = shared if isinstance(shared, ray.ObjectRef) else ray.put(shared)
    num_cpus = workers.cpus_per_worker
    task = ray.remote(num_cpus=num_cpus, num_gpus=int(bool(workers.use_gpu)), max_retries=0)(_call)
    outcomes: dict[int, Outcome | str] = {}
    running: dict[ray.ObjectRef, int] = {}
    remaining = list(range(len(items)))[::-1]
    while remaining or running:
        while remaining and len(running) < (workers.num_workers or 1):
            index = remaining.pop()
            running[task.remote(function, reference, items[index], num_cpus)] = index
        done, _ = ray.wait(list(running), num_returns=1)
        index = running.pop(done[0])
        try:
            outcomes[index] = ray.get(done[0])
        except ray.exceptions.RayTaskError as e:
            outcomes[index] = describe(e.cause if isinstance(e.cause, BaseException) else e)
        except ray.exceptions.RayError as e:
            outcomes[index] = describe(e)
    return [outcomes[i] for i in range(len(items))]


def _call(
    function: Callable[[Any, Item], Outcome], shared: Any, item: Item, num_threads: int
) -> Outcome:
    torch.set_num_threads(num_threads)
    return function(shared, item)
