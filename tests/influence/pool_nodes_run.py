"""Scores one log on clusters that differ and shrink: `python pool_nodes_run.py FOLDER`.

Writes `outcomes.json` there: a digest of the scores, or the error, by what the cluster was.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from diet_ray.errors import ClusterError
from diet_ray.influence.config import InfluenceConfig
from diet_ray.influence.pool import ScoringPool
from diet_ray.influence.shard_scores import StageScores
from tests.clusters import start_cluster
from tests.influence.pool_tasks import VictimLog, kill_victim
from tests.influence.small_log import SmallLog, small_log
from tests.influence.test_pool import BUDGET, PROXY, SEED, expected, weights

STORE_BYTES = 100 * 1024**2
# A dead node is known to be dead after three seconds.
HEALTH_CHECK = {"health_check_period_ms": 500, "health_check_failure_threshold": 6}
LOG = small_log(((40, 30, 50, 20),))


def digest(scores: StageScores) -> str:
    content = hashlib.sha256(str(scores.winners.to_pydict()).encode())
    for array in (
        scores.aggregate.last_layer.numpy(),
        scores.aggregate.embedding.numpy(),
        scores.score_by_stratum,
    ):
        content.update(array.tobytes())
    return content.hexdigest()


def outcome(log: SmallLog = LOG, **settings: Any) -> str:
    config = InfluenceConfig(batch_size=32, defensive_share=0.5, **settings)
    try:
        with ScoringPool(log, log.stages, PROXY, config, {0: BUDGET}, SEED) as pool:
            pool.publish(0, weights(0))
            return digest(pool.results(0))
    except ClusterError as e:
        return str(e)


@contextmanager
def busy_head() -> Iterator[None]:
    """The head's only CPU is held, so scorers live on the other nodes."""
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}

    @ray.remote(num_cpus=1, label_selector=here)
    class Holder:
        def is_up(self) -> bool:
            return True

    holder = Holder.remote()
    ray.get(holder.is_up.remote())
    yield
    ray.kill(holder)


def outcome_of_loss(folder: Path, kill_node: Callable[[str], None], **settings: Any) -> str:
    """Of a run in which the node dies that has read shard 2."""
    log = VictimLog(LOG.stages, LOG.tables, victim=2, fifo=folder / "victim")
    kill_victim(log, lambda pid, node: kill_node(node))
    return outcome(log, **settings)


def main() -> None:
    folder = Path(sys.argv[1])
    cluster = start_cluster(
        num_cpus=1, object_store_memory=STORE_BYTES, _system_config=HEALTH_CHECK
    )
    ray.init(address=cluster.address, log_to_driver=False)

    def add_node(num_cpus: int) -> None:
        cluster.add_node(num_cpus=num_cpus, object_store_memory=STORE_BYTES)

    def kill_node(node_id: str) -> None:
        node = next(n for n in cluster.worker_nodes if n.node_id == node_id)
        cluster.remove_node(node, allow_graceful=False)

    outcomes = {"expected": digest(expected(LOG, 0)), "one CPU": outcome()}
    add_node(1)
    outcomes["scorers larger than nodes"] = outcome(num_scorers=1, cpus_per_scorer=2)
    add_node(2)
    outcomes["four CPUs"] = outcome()
    with busy_head():
        (folder / "loss").mkdir()
        outcomes["a node lost"] = outcome_of_loss(
            folder / "loss", kill_node, num_scorers=1, cpus_per_scorer=0.9
        )
        (folder / "last").mkdir()
        outcomes["no place left"] = outcome_of_loss(
            folder / "last", kill_node, num_scorers=1, cpus_per_scorer=0.9, start_timeout_s=10
        )
    (folder / "outcomes.json").write_text(json.dumps(outcomes))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
