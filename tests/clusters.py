"""Starting local clusters: Ray waits half a minute for a node, a busy machine may need longer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from ray.cluster_utils import Cluster

STARTS = 3
T = TypeVar("T")


def started(start: Callable[[], T]) -> T:
    """What `start` returns, which may fail twice and leaves nothing behind then."""
    for _ in range(STARTS - 1):
        with contextlib.suppress(Exception):
            return start()
    return start()


def start_cluster(*worker_nodes: dict[str, Any], **head_node: Any) -> Cluster:
    """A cluster of a head and other nodes, all alive."""

    def start() -> Cluster:
        cluster = Cluster(shutdown_at_exit=True)
        try:
            for arguments in (head_node, *worker_nodes):
                cluster.add_node(**arguments)
        except Exception:
            cluster.shutdown()
            raise
        return cluster

    return started(start)
