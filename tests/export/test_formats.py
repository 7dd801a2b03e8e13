"""Each format is read back by its own rules; by the library itself where it is installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from diet_ray.errors import OutputError
from diet_ray.export import deepctr, fuxictr, huggingface, recbole
from diet_ray.export.rows import ExportRows, hard_columns

FORMATS = {
    "fuxictr": fuxictr.export,
    "recbole": recbole.export,
    "deepctr": deepctr.export,
    "hf": huggingface.export,
}
SPLITS = ["train", "valid", "test", "full"]


def expected(rows: ExportRows) -> dict[str, pd.DataFrame]:
    """Fields and label of each split, sequences as tuples."""
    frames = {}
    for name, parts in rows.splits():
        tables = [hard_columns(p, rows.features, rows.label).to_pandas() for p in parts]
        frame = pd.concat(tables, ignore_index=True)
        frame["seen"] = frame["seen"].map(tuple)
        frames[name] = frame
    return frames


@pytest.mark.parametrize("export", FORMATS.values(), ids=FORMATS)
def test_a_folder_that_is_in_use_is_left_alone(
    export: Callable[..., None], rows: ExportRows, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(OutputError, match="out"):
        export(rows, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.mark.parametrize("export", FORMATS.values(), ids=FORMATS)
def test_the_page_says_how_to_train_and_what_is_lost(
    export: Callable[..., None], rows: ExportRows, tmp_path: Path
) -> None:
    export(rows, tmp_path / "out")
    page = (tmp_path / "out" / "README.md").read_text()
    assert "24 rows that stand for 480" in page
    assert "0.5 times the" in page
    assert "2 times as large" in page
    assert "drift factors" in page.split("## What this format loses")[1]


def test_fuxictr(rows: ExportRows, tmp_path: Path) -> None:
    fuxictr.export(rows, tmp_path / "out")
    (name, config), *_ = yaml.safe_load(
        (tmp_path / "out" / "config" / "dataset_config.yaml").read_text()
    ).items()
    assert config["data_format"] == "parquet"
    described = json.loads((Path(config["data_root"]) / name / "feature_map.json").read_text())
    assert described["dataset_id"] == name == "clicks"
    fields = {k: v for field in described["features"] for k, v in field.items()}
    assert [*fields, *described["labels"]] == ["user", "item", "price", "seen", "click"]
    assert fields["item"] == fields["item"] | {"vocab_size": 20, "padding_idx": 0}
    assert fields["seen"] == fields["seen"] | {"max_len": 3, "share_embedding": "item"}
    # Its reader takes columns by name, lists as numpy's objects.
    for split, frame in expected(rows).items():
        path = config.get(
            f"{split}_data", str(Path(config["data_root"]) / name / f"{split}.parquet")
        )
        read = pd.read_parquet(path)
        assert read["seen"].dtype == object
        read["seen"] = read["seen"].map(tuple)
        pd.testing.assert_frame_equal(read[frame.columns], frame, check_dtype=False)
        for field, spec in fields.items():
            if "vocab_size" in spec:
                assert np.array(read[field].tolist()).max() < spec["vocab_size"]


def test_recbole(rows: ExportRows, tmp_path: Path) -> None:
    recbole.export(rows, tmp_path / "out")
    config = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert (config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]) == ("user", "item")
    assert config["alias_of_item_id"] == ["seen"]
    folder = Path(config["data_path"]) / config["dataset"]
    assert config["benchmark_filename"] == SPLITS[:3]
    for split, frame in expected(rows).items():
        path = folder / f"{config['dataset']}.{split}.inter"
        header = path.read_text().splitlines()[0].split("\t")
        kinds = dict(h.split(":") for h in header)
        assert kinds == {
            "user": "token", "item": "token", "price": "float", "seen": "token_seq",
            "click": "float",
        }  # fmt: skip
        read = pd.read_csv(path, sep="\t", dtype={h: str for h in header if "token" in h})
        assert not read.isna().any(axis=None)
        read.columns = pd.Index(kinds)
        assert set(config["load_col"]["inter"]) == set(read.columns)
        np.testing.assert_allclose(read["click"], frame["click"], rtol=1e-6)
        np.testing.assert_allclose(read["price"], frame["price"], rtol=1e-6)
        assert read["user"].tolist() == frame["user"].astype(str).tolist()
        lists = [tuple(int(i) for i in text.split(" ")) for text in read["seen"]]
        assert lists == [tuple(i for i in ids if i) or (0,) for ids in frame["seen"]]


def test_deepctr(rows: ExportRows, tmp_path: Path) -> None:
    deepctr.export(rows, tmp_path / "out")
    spec = json.loads((tmp_path / "out" / "feature_columns.json").read_text())
    assert spec["sparse"] == [
        {"name": "user", "vocabulary_size": 20},
        {"name": "item", "vocabulary_size": 20},
    ]
    (sequence,) = spec["sequence"]
    assert sequence["maxlen"] == 3
    assert sequence["sparsefeat"]["embedding_name"] == "item"
    for split, frame in expected(rows).items():
        read = pd.read_parquet(tmp_path / "out" / f"{split}.parquet")
        read["seen"] = read["seen"].map(tuple)
        pd.testing.assert_frame_equal(read, frame)


def test_hugging_face_keeps_labels_targets_and_weights(rows: ExportRows, tmp_path: Path) -> None:
    huggingface.export(rows, tmp_path / "out")
    _, card, _ = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    (config,) = yaml.safe_load(card)["configs"]
    files = {f["split"]: tmp_path / "out" / f["path"] for f in config["data_files"]}
    assert list(files) == ["train", "validation", "test", "full"]
    read = pd.read_parquet(files["train"])
    np.testing.assert_array_equal(read["_target"], rows.dataset.targets().numpy())
    np.testing.assert_array_equal(read["_weight"], rows.dataset.weights.float().numpy())
    np.testing.assert_array_equal(read["click"], rows.dataset.batch().label.numpy())
    assert len(pd.read_parquet(files["full"])) == 480


def test_vocabularies_say_what_an_id_stands_for(rows: ExportRows, tmp_path: Path) -> None:
    huggingface.export(rows, tmp_path / "out")
    values = pd.read_parquet(tmp_path / "out" / "vocabulary" / "item.parquet")
    item = int(rows.dataset.batch().categorical[0, 1])
    assert values.set_index("id")["value"][item] == f"item {item}"
