"""The tutorial notebook runs as it is shipped, here on the beginning of its log."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import ray

import diet_ray
from tests.kuairand import SAMPLE, write_log

EXAMPLES = Path(__file__).parent.parent / "examples"
NUM_ROWS = 3_000


def test_the_tutorial_runs(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    # One cluster is enough for both processes.
    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    write_log(tmp_path / "examples" / "data" / SAMPLE.name, num_rows=NUM_ROWS)
    notebook = nbformat.read(tmp_path / "examples" / "tutorial.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert all(not c.get("outputs") for c in notebook.cells), "shipped without outputs"
    assert f"{pq.read_metadata(SAMPLE).num_rows:,} rows" in notebook.cells[0].source
    client = nbclient.NotebookClient(
        notebook, timeout=None, resources={"metadata": {"path": str(tmp_path / "examples")}}
    )
    client.execute()
    code = [c for c in notebook.cells if c.cell_type == "code"]
    dataset = diet_ray.load(tmp_path / "runs" / "tutorial")
    # Nine tenths are for training, and a row in fifty is kept.
    assert dataset.manifest.num_rows_seen == 0.9 * NUM_ROWS
    assert dataset.num_slots == 0.02 * dataset.manifest.num_rows_seen
    printed = "".join(o.get("text", "") for o in code[1].outputs)
    assert f"{dataset.num_slots} rows stand for {dataset.manifest.num_rows_seen:,}" in printed
    table = code[3].outputs[-1]["data"]["text/plain"]
    assert all(name in table for name in ("lr", "dnn", "deepfm", "din", "worst_place"))
    assert "torch.Size([20, 3])" in code[4].outputs[-1]["data"]["text/plain"]
