"""Every job does its command's work on a cluster that it is submitted to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import yaml

from diet_ray import DistilledDataset
from tests.kuairand import SCHEMA, SETTINGS, write_log

ROOT = Path(__file__).parent.parent
RAY = "from ray.scripts.scripts import main; main()"
CANDIDATES = [
    {"name": "mine", "architecture": "mine:Mine", "embedding_size": 4, "batch_size": 128},
    {"name": "lr", "architecture": "lr", "batch_size": 128},
    {"name": "fm", "architecture": "fm", "embedding_size": 4, "batch_size": 128},
]
MODEL = """
from diet_ray.models.dnn import DNN

class Mine(DNN):
    pass
"""
# The sample's rows up to the end of 8 April, and the beginning of the next day.
NUM_ROWS, NUM_DAY_ROWS = 2849, 1000
DAY = "2022-04-09.parquet"
Submit = Callable[..., str]
# Ray grants its dashboard a minute and each of its modules half of one.
DASHBOARD_PATIENCE = {
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "600",
    "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": "600",
}


@pytest.fixture(scope="module")
def dashboard() -> Iterator[str]:
    """The address of a cluster of two CPUs, which ends with the tests."""
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("job_cluster.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment | DASHBOARD_PATIENCE | {"PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, "the cluster didn't start"
        yield f"http://{address}"
        process.communicate()


@pytest.fixture(scope="module")
def submit(dashboard: str, tmp_path_factory: pytest.TempPathFactory) -> Submit:
    """Runs a job to its end from a working folder with candidates; what it printed."""
    folder = tmp_path_factory.mktemp("work")
    shutil.copytree(ROOT / "jobs", folder / "jobs")
    (folder / "mine.py").write_text(MODEL)
    (folder / "candidates.yaml").write_text(yaml.safe_dump({"candidates": CANDIDATES}))

    def run(job: str, *arguments: str | Path) -> str:
        options = ("--address", dashboard, "--working-dir", folder)
        entry = (sys.executable, f"jobs/{job}.py", *arguments)
        ran = subprocess.run(
            [sys.executable, "-c", RAY, "job", "submit", *options, "--", *map(str, entry)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    return run


@pytest.fixture(scope="module")
def log(submit: Submit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `prepare` makes of a CSV, a file a day, of which the last lies apart, as `DAY`."""
    folder = tmp_path_factory.mktemp("log")
    rows = pq.read_table(write_log(folder / "raw.parquet", num_rows=NUM_ROWS + NUM_DAY_ROWS))
    pa_csv.write_csv(rows, folder / "raw.csv")
    printed = submit("prepare", "csv", folder / "raw.csv", folder / "log", "--schema", SCHEMA)
    assert f"{len(rows):,} rows from {len(rows):,}" in printed
    (folder / "log" / "log" / DAY).rename(folder / DAY)
    return folder / "log"


@pytest.fixture(scope="module")
def run(submit: Submit, log: Path) -> Path:
    """What `distill` makes of that."""
    config = log / "distill.yaml"
    prepared = yaml.safe_load(config.read_text())
    quick = SETTINGS | {k: prepared[k] for k in ("schema", "source")}
    config.write_text(yaml.safe_dump(quick))
    printed = submit("distill", "--config", config, "--out", log.parent / "run")
    assert "114 slots" in printed
    return log.parent / "run"


def consistency(run: Path, printed: str) -> None:
    found = json.loads((run / "consistency" / "consistency.json").read_text())
    assert {c["name"] for c in found["candidates"]} == {"mine", "lr", "fm"}
    assert "report.html" in printed


def score(run: Path, printed: str) -> None:
    assert f"{NUM_ROWS:,} rows in {run / 'score' / 'scored' / 'scores'}" in printed


def search(run: Path, printed: str) -> None:
    assert all(name in printed for name in ("mine", "lr", "fm"))
    assert (run / "search").is_dir()


def train(run: Path, printed: str) -> None:
    assert json.loads((run / "train" / "fm" / "train.json").read_text())["num_rows"] == 2279
    assert "AUC" in printed


USES = {
    search: ("--candidates", "candidates.yaml", "--seeds", "1"),
    score: ("--scores", "loss", "--top", "1"),
    train: ("--candidates", "candidates.yaml", "--candidate", "fm"),
    consistency: ("--candidates", "candidates.yaml", "--no-baselines"),
}


@pytest.mark.parametrize("check", USES, ids=lambda check: check.__name__)
def test_a_job_of_a_run(check: Callable[[Path, str], None], submit: Submit, run: Path) -> None:
    check(run, submit(check.__name__, run, *USES[check]))


def test_update_adds_a_day(submit: Submit, run: Path) -> None:
    before = DistilledDataset.load(run / "distilled").manifest.num_rows_seen
    submit("update", run, "--log", run.parent / DAY)
    assert DistilledDataset.load(run / "distilled").manifest.num_rows_seen == before + NUM_DAY_ROWS


def test_every_job_is_tried() -> None:
    tried = {check.__name__ for check in USES} | {"prepare", "distill", "update"}
    assert {p.stem for p in (ROOT / "jobs").glob("*.py")} == tried
