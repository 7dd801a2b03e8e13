"""Starting local clusters: Ray waits half a minute for a node, a busy machine may need longer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ray.cluster_utils import Cluster

STARTS = 3
T = TypeVar("T")


def started(start: Callable[[], T], undo: Callable[[], None]) -> T:
    """What `start` returns, which may fail twice and is undone then."""
    for _ in range(STARTS - 1):
        try:
            return start()
        except Exception:
            undo()
    return start()


def start_cluster(*worker_nodes: dict[str, Any], **head_node: Any) -> Cluster:
    """A cluster of a head and other nodes, all alive."""
    clusters: list[Cluster] = []

    def start() -> Cluster:
        clusters.append(Cluster(shutdown_at_exit=True))
        for arguments in (head_node, *worker_nodes):
            clusters[-1].add_node(**arguments)
        return clusters[-1]

    return started(start, lambda: clusters[-1].shutdown())
