"""Fixtures shared by all tests: one small local Ray cluster for each process that tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

# A folder of its own for each process that tests: none joins another's cluster, or a stranger's.
# Short, as the paths of sockets must be.
os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="ray-")
# One thread a process: results are bit-identical only at a fixed thread count.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
# Workers get as much of a core as the other process that tests; Ray would let them wait for it.
os.environ.setdefault("RAY_worker_niceness", "0")

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
# The same examples in every run; `make fuzz` looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")
_RAY_FOLDER = os.environ["RAY_TMPDIR"]


STARTS_RAY = ("benchmarks/", "test_jobs", "test_multi_node", "test_pool_nodes", "test_stopping")
"""Files that start Ray without the fixture."""


SLOW = (
    "test_from_a_log_to_a_ranking",
    "test_back_and_forth_gives_the_same_bits",
    "test_the_tutorial_runs",
    "test_a_public_log_is_prepared_and_distilled",
    "test_a_strangers_csv_from_proposal_to_distilled_set",
    "test_a_table_with_a_schema_is_sorted_into_days_here_and_on_ray",
    "test_a_terminated_run_stops_cleanly_and_goes_on_to_the_same_bits",
    "test_update_adds_a_day_and_equals_one_longer_run",
    "test_a_killed_worker_changes_no_bit",
    "test_search_goes_on_with_the_recipe_that_anchors_speak_for",
)
"""Tests that distil or train again and again: a minute or so each. Others tell of the same
promises, at smaller scale or of another part."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what starts Ray: that is run apart, a file in one process."""
    for item in items:
        by_itself = any(name in item.nodeid for name in STARTS_RAY)
        if by_itself or "ray_cluster" in getattr(item, "fixturenames", ()):
            item.add_marker("ray")
        if getattr(item, "originalname", "") in SLOW and "DIET_SLOW_TESTS" not in os.environ:
            item.add_marker(pytest.mark.skip(reason="slow; make test-all"))


def pytest_sessionfinish() -> None:
    shutil.rmtree(_RAY_FOLDER, ignore_errors=True)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local cluster of two CPUs and a small object store, one in each process that tests."""
    import ray

    from tests.clusters import started

    def start() -> None:
        try:
            ray.init(
                address="local",
                num_cpus=2,
                object_store_memory=200 * 1024**2,
                include_dashboard=False,
                log_to_driver=False,
                ignore_reinit_error=True,
            )
        except Exception:
            ray.shutdown()
            raise

    started(start)
    yield
    ray.shutdown()
