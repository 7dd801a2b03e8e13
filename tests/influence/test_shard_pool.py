from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray

from diet_ray.data.log import Shard
from diet_ray.errors import ClusterError
from diet_ray.influence.config import PoolConfig
from diet_ray.influence.shard_pool import ShardPool
from tests.influence.pool_tasks import Meeting, Naming, Straggling
from tests.influence.small_log import small_log


def shards(num_shards: int) -> tuple[Shard, ...]:
    return small_log(((4,) * num_shards,)).stages[0].shards


@contextmanager
def held_cpus(num_cpus: float) -> Iterator[None]:
    """Another user's actor on the cluster."""

    @ray.remote(num_cpus=num_cpus)
    class Holder:
        def is_up(self) -> bool:
            return True

    holder = Holder.remote()
    ray.get(holder.is_up.remote())
    try:
        yield
    finally:
        ray.kill(holder)


def test_bad_shards_are_named_and_the_others_go_on(ray_cluster: None):
    config = PoolConfig(num_scorers=1, shards_in_flight=2)
    with ShardPool(shards(6), Naming(bad=1, deadly=3), config, "naming") as pool:
        results = {r.shard: r for r in pool.arrivals()}
        with pytest.raises(ClusterError, match="naming has ended: there are no more shards"):
            pool.next()
    assert sorted(results) == list(range(6))
    errors = {i: r.error for i, r in results.items() if r.error is not None}
    assert sorted(errors) == [1, 3]
    assert errors[1] == "stage-0.parquet: shard 1 is bad"
    assert errors[3].startswith("stage-0.parquet, rows 12 to 15: 3 processes have died")
    assert all(r.content == str(i).encode() for i, r in results.items() if i not in errors)


def test_a_straggler_holds_no_other_shard_and_the_pool_grows(ray_cluster: None, tmp_path: Path):
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    config = PoolConfig(num_scorers=1, max_scorers=2, shards_in_flight=1)
    with ShardPool(shards(5), Straggling(fifo), config, "straggling") as pool:
        others = [pool.next() for _ in range(4)]
        assert sorted(r.shard for r in others) == [1, 2, 3, 4]
        fifo.write_bytes(b"")
        last = pool.next()
    assert last.shard == 0
    assert last.content not in {r.content for r in others}


def test_a_scorer_works_on_several_shards_at_once(ray_cluster: None):
    config = PoolConfig(num_scorers=1, shards_in_flight=2)
    with ShardPool(shards(4), Meeting(2), config, "meeting") as pool:
        assert sorted(r.shard for r in pool.arrivals()) == [0, 1, 2, 3]


def test_auto_takes_what_is_free_and_leaving_early_ends_the_execution(ray_cluster: None):
    with held_cpus(1.5), ShardPool(shards(40), Naming(), PoolConfig(), "naming") as pool:
        pool.next()
        assert pool.is_running
    assert not pool.is_running


def test_a_busy_cluster_is_refused_with_the_reason(ray_cluster: None):
    config = PoolConfig(num_scorers=1, start_timeout_s=2)
    with (
        held_cpus(2),
        pytest.raises(ClusterError) as refused,
        ShardPool(shards(2), Naming(), config, "naming") as pool,
    ):
        # On entering it was refused already, unless Ray didn't know yet that it was busy.
        pool.next()
    assert str(refused.value) == (
        "naming: an actor found no place in 2 s: it needs 0.5 CPUs on one node, and 0 of the "
        "cluster's 2 CPUs are free: end what holds the others, ask for smaller ones, or add nodes"
    )


def test_scorers_that_never_fit_are_refused_at_once(ray_cluster: None):
    with (
        pytest.raises(ClusterError, match=r"naming needs 6 CPUs but the cluster has 2"),
        ShardPool(shards(2), Naming(), PoolConfig(num_scorers=2, cpus_per_scorer=3), "naming"),
    ):
        pass


def test_no_shards_need_no_cluster():
    with ShardPool((), Naming(), PoolConfig(), "naming") as pool:
        assert list(pool.arrivals()) == []
        assert not pool.is_running
