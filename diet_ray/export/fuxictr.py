"""FuxiCTR: Parquet with encoded ids, `feature_map.json`, and a dataset configuration.

    OUT/NAME/{train,valid,test}.parquet, OUT/NAME/feature_map.json
    OUT/config/dataset_config.yaml   the entry NAME, to be put beside a model_config.yaml

The layout is what its `FeatureMap.load` and `ParquetDataLoader` read with `data_format: parquet`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from diet_ray.data.batch import PADDING_ID, FeatureSpec
from diet_ray.export.files import copy_vocabularies, explanation, new_folder, write_parquet
from diet_ray.export.rows import ExportRows, hard_columns

POOLING = "layers.MaskedAveragePooling()"
LOSSES = (
    "weights become repetitions: its `fit` takes none",
    "targets outside [0, 1] are clipped: its loss is defined inside",
    "the recipe's β and ε of Adam, and its drift factors: its optimiser takes a rate alone",
)


def export(rows: ExportRows, out: Path) -> None:
    """Raises `OutputError` if the folder isn't empty."""
    new_folder(out)
    folder = out / rows.name
    folder.mkdir()
    paths: dict[str, str] = {}
    for split, parts in rows.splits():
        path = folder / f"{split}.parquet"
        write_parquet(path, (hard_columns(p, rows.features, rows.label) for p in parts))
        paths[split] = str(path.resolve())
    content = feature_map(rows.features, rows.name, rows.label)
    (folder / "feature_map.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    copy_vocabularies(rows, folder)
    (out / "config").mkdir()
    config = {
        rows.name: {
            "data_root": str(out.resolve()),
            "data_format": "parquet",
            "train_data": paths["train"],
            "valid_data": paths["valid"],
            "test_data": paths["test"],
        }
    }
    text = yaml.safe_dump(config, sort_keys=False)
    (out / "config" / "dataset_config.yaml").write_text(text, encoding="utf-8")
    usage = (
        f"In `model_config.yaml`: `dataset_id: {rows.name}`, `shuffle: False`. Paths in\n"
        "`config/dataset_config.yaml` are absolute: mend them if the folder moves. Sequences are\n"
        f"pooled by `{POOLING}`; for models that attend to them, set\n"
        "`feature_specs: [{name: FIELD, feature_encoder: null}]`.\n"
    )
    text = explanation(rows, "FuxiCTR", target=rows.label, losses=LOSSES, usage=usage)
    (out / "README.md").write_text(text, encoding="utf-8")


def feature_map(features: FeatureSpec, name: str, label: str) -> dict[str, Any]:
    """The content of `feature_map.json`."""
    ids = {"source": "", "padding_idx": PADDING_ID}
    fields: list[dict[str, dict[str, Any]]] = [
        {field: {"type": "categorical", "vocab_size": num_ids} | ids}
        for field, num_ids in zip(features.categorical, features.num_ids, strict=True)
    ]
    fields += [{field: {"type": "numeric", "source": ""}} for field in features.numeric]
    for s in features.sequence:
        own = {"type": "sequence", "vocab_size": s.num_ids, "max_len": s.max_length}
        shared = {} if s.target is None else {"share_embedding": s.target}
        fields.append({s.name: own | ids | shared | {"feature_encoder": POOLING}})
    return {
        "dataset_id": name,
        "num_fields": len(fields),
        "total_features": sum(
            spec["vocab_size"] if "vocab_size" in spec and "share_embedding" not in spec else 1
            for field in fields
            for spec in field.values()
        ),
        "input_length": sum(spec.get("max_len", 1) for field in fields for spec in field.values()),
        "labels": [label],
        "features": fields,
    }
