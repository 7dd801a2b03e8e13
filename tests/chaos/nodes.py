"""A local cluster of two nodes, whose processes can be killed for real."""

from __future__ import annotations

from typing import Literal

from ray.cluster_utils import Cluster

from tests.chaos.processes import descendants, kill
from tests.clusters import start_cluster

Victim = Literal["scorer", "memory", "worker node", "driver", "all"]
VICTIMS: tuple[Victim, ...] = ("scorer", "memory", "worker node", "driver", "all")
STORE_BYTES = 100 * 1024**2
_NODE = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
_TITLES = {"scorer": "ray::MapWorker", "memory": "ray::MemoryActor"}
# A dead node is known to be dead after three seconds.
_HEALTH_CHECK = {"health_check_period_ms": 500, "health_check_failure_threshold": 6}


class Nodes:
    """Starts a cluster when one is asked for, and again after it was killed."""

    def __init__(self) -> None:
        self._cluster: Cluster | None = None

    def address(self) -> str:
        if self._cluster is None:
            self._cluster = start_cluster(
                _NODE, **_NODE, include_dashboard=False, _system_config=_HEALTH_CHECK
            )
            (self._worker,) = self._cluster.worker_nodes
        return str(self._cluster.address)

    def kill(self, victim: Victim) -> bool:
        """Whether there was something to kill. The driver is killed by who started it."""
        assert self._cluster is not None
        if victim == "worker node":
            # With every process on it, none of which is told.
            for pid in descendants(self._raylet(self._worker)):
                kill(pid)
            self._cluster.remove_node(self._worker, allow_graceful=False)
            self._worker = self._cluster.add_node(**_NODE)
            return True
        if victim == "all":
            for node in (self._cluster.head_node, self._worker):
                for pid in descendants(self._raylet(node)):
                    kill(pid)
            self.close()
            return True
        title = _TITLES.get(victim, "")
        found = [
            pid
            for node in (self._cluster.head_node, self._worker)
            for pid, command in descendants(self._raylet(node)).items()
            if title and command.startswith(title)
        ]
        return any(kill(pid) for pid in found[:1])

    @staticmethod
    def _raylet(node: object) -> int:
        (info,) = node.all_processes["raylet"]  # type: ignore[attr-defined]
        return int(info.process.pid)

    def close(self) -> None:
        if self._cluster is not None:
            self._cluster.shutdown()
            self._cluster = None
