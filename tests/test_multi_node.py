"""The same memory, bit for bit, from one scorer on one node and from two on two nodes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from diet_ray.distillation.config import load_distill_config
from diet_ray.distillation.run import distill
from tests.kuairand import write_config, write_log

ROOT = Path(__file__).parent.parent
RUN_TIMEOUT_S = 1800


def test_two_nodes_give_the_bits_of_one(tmp_path: Path, ray_cluster: None) -> None:
    write_log(tmp_path / "log.parquet", num_rows=2500)
    one = write_config(tmp_path)
    distill(load_distill_config(one), tmp_path / "one")
    # One CPU each and no more than one a node: the two scorers can't share a node.
    influence = {"num_scorers": 2, "cpus_per_scorer": 0.6}
    two = write_config(tmp_path, influence=influence)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    finished = subprocess.run(
        [sys.executable, ROOT / "tests" / "multi_node_run.py", two, tmp_path / "two"],
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        env=environment,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert "nodes: 2" in finished.stdout
    memories = [
        (tmp_path / n / "distilled" / "memory.parquet").read_bytes() for n in ("one", "two")
    ]
    assert memories[0] == memories[1]
