"""A local cluster that takes jobs, until its input ends: says where its dashboard is."""

from __future__ import annotations

import sys

import ray


def main() -> None:
    context = ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=200 * 1024**2,
        include_dashboard=True,
        log_to_driver=False,
    )
    print(context.dashboard_url, flush=True)
    sys.stdin.read()
    ray.shutdown()


if __name__ == "__main__":
    main()
