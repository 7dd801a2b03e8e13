"""The libraries themselves on what is exported, where they are installed: each trains a model."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from diet_ray.export import deepctr, fuxictr, huggingface, recbole
from diet_ray.export.rows import ExportRows, repeated


def test_fuxictr_trains(rows: ExportRows, tmp_path: Path) -> None:
    pytest.importorskip("fuxictr")
    model_zoo = pytest.importorskip("model_zoo", reason="PyPI's package has no models")
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import RankDataLoader
    from fuxictr.utils import load_dataset_config

    fuxictr.export(rows, tmp_path / "out")
    params = load_dataset_config(str(tmp_path / "out" / "config"), "clicks")
    params |= {"embedding_dim": 4, "num_workers": 0, "batch_size": 12, "shuffle": False}
    folder = Path(params["data_root"]) / "clicks"
    features = FeatureMap("clicks", str(folder))
    features.load(str(folder / "feature_map.json"), params)
    train, valid = RankDataLoader(features, stage="train", **params).make_iterator()
    first = next(iter(train))
    (part,) = next(iter(rows.splits()))[1]
    np.testing.assert_allclose(
        first["click"].numpy(), repeated(part).target.clamp(0, 1)[:12].numpy(), rtol=1e-6
    )
    model = model_zoo.DeepFM(
        features, model_root=str(tmp_path), verbose=0, metrics=["AUC"], monitor="AUC",
        optimizer="adam", loss="binary_crossentropy", learning_rate=1e-2, hidden_units=[8],
        embedding_dim=4,
    )  # fmt: skip
    (tmp_path / "clicks").mkdir()
    model.fit(train, epochs=1, validation_data=valid)
    assert 0 < model.evaluate(valid)["AUC"] < 1


@pytest.mark.skipif("RECBOLE_PYTHON" not in os.environ, reason="no interpreter with RecBole")
def test_recbole_trains(rows: ExportRows, tmp_path: Path) -> None:
    """RecBole 1.2.1 needs numpy below 2 and pandas below 3, so an environment of its own."""
    recbole.export(rows, tmp_path / "out")
    program = [os.environ["RECBOLE_PYTHON"], Path(__file__).with_name("recbole_run.py")]
    ran = subprocess.run(
        [*program, tmp_path / "out"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    (part,) = next(iter(rows.splits()))[1]
    np.testing.assert_allclose(
        found["labels"], repeated(part).target.clamp(0, 1).numpy(), rtol=1e-5
    )
    assert 0 < found["auc"] < 1


def test_deepctr_trains_by_the_lines_of_the_page(rows: ExportRows, tmp_path: Path) -> None:
    models = pytest.importorskip("deepctr_torch.models")
    deepctr.export(rows, tmp_path / "out")
    (lines,) = re.findall(
        r"```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(), re.S
    )
    scope: dict[str, Any] = {"FOLDER": tmp_path / "out"}
    exec(lines, scope)
    columns, inputs, target = scope["columns"], scope["inputs"], scope["target"]
    model = models.DeepFM(columns, columns, dnn_hidden_units=(8,), device="cpu")
    model.compile("adam", "binary_crossentropy")
    model.fit(inputs, target, epochs=1, batch_size=12, shuffle=False, verbose=0)
    assert np.isfinite(model.predict(scope["split"]("valid")[0])).all()


def test_datasets_loads(rows: ExportRows, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    huggingface.export(rows, tmp_path / "out")
    found = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {k: len(v) for k, v in found.items()} == {
        "train": 24, "validation": 50, "test": 50, "full": 480,
    }  # fmt: skip
    assert set(found["train"].column_names) >= {"click", "_target", "_weight", "seen"}
    card = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---\n")[1])
    assert card["configs"][0]["config_name"] == "default"
