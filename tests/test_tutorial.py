"""The tutorial notebook runs as it is shipped."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import ray

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_tutorial_runs(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    # One cluster is enough for both processes.
    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    notebook = nbformat.read(tmp_path / "examples" / "tutorial.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert all(not c.get("outputs") for c in notebook.cells), "shipped without outputs"
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path / "examples")}}
    )
    client.execute()
    code = [c for c in notebook.cells if c.cell_type == "code"]
    printed = "".join(o.get("text", "") for o in code[1].outputs)
    assert "753 rows stand for 37,645" in printed
    table = code[3].outputs[-1]["data"]["text/plain"]
    assert all(name in table for name in ("lr", "dnn", "deepfm", "din", "worst_place"))
    assert "torch.Size([20, 3])" in code[4].outputs[-1]["data"]["text/plain"]
    assert (tmp_path / "runs" / "tutorial" / "distilled" / "manifest.json").exists()
