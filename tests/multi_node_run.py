"""Distils a configuration on a cluster of two nodes: `python multi_node_run.py CONFIG OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

import ray

from diet_ray.distillation.config import load_distill_config
from diet_ray.distillation.run import distill
from tests.clusters import start_cluster

STORE_BYTES = 150 * 1024**2


def main() -> None:
    node = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
    cluster = start_cluster(node, **node)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        distill(load_distill_config(sys.argv[1]), Path(sys.argv[2]))
        print(f"nodes: {len(ray.nodes())}")
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
