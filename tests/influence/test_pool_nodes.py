"""The same bits, or a reason, from clusters of one CPU, of several nodes, and of dying nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
RUN_TIMEOUT_S = 1800


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    folder = tmp_path_factory.mktemp("nodes")
    # A cluster tells its address below this folder, and whoever starts Ray there would join it. A
    # short one, because paths of sockets are.
    with tempfile.TemporaryDirectory(prefix="ray-") as environment["RAY_TMPDIR"]:
        finished = subprocess.run(
            [sys.executable, ROOT / "tests" / "influence" / "pool_nodes_run.py", folder],
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
            env=environment,
            check=False,
        )
    assert finished.returncode == 0, finished.stderr[-2000:]
    return json.loads((folder / "outcomes.json").read_text())


@pytest.mark.parametrize("cluster", ["one CPU", "four CPUs", "a node lost"])
def test_the_bits_are_those_of_one_process(outcomes: dict[str, str], cluster: str):
    assert outcomes[cluster] == outcomes["expected"]


def test_scorers_larger_than_every_node_are_refused(outcomes: dict[str, str]):
    assert outcomes["scorers larger than nodes"] == (
        "influence scoring needs 1 actors of 2 CPUs each but the cluster's nodes have places for "
        "0: ask for fewer or smaller ones, or add nodes"
    )


def test_a_lost_node_without_another_place_is_an_error_with_the_reason(outcomes: dict[str, str]):
    assert outcomes["no place left"].startswith(
        "influence scoring: an actor found no place in 10 s: it needs 0.9 CPUs on one node, and "
    )
