"""RecBole: atomic files, pre-split, and a configuration for its context-aware models.

OUT/NAME/NAME.{train,valid,test}.inter   tab-separated, `field:type` in the header
OUT/config.yaml
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import yaml

from diet_ray.data.batch import PADDING_ID, FeatureSpec
from diet_ray.export.files import copy_vocabularies, explanation, new_folder
from diet_ray.export.rows import ExportRows, hard_columns

LOSSES = (
    "weights become repetitions: its losses take none",
    "targets outside [0, 1] are clipped",
    "a sequence has an embedding table of its own, apart from its item's, and is averaged; an "
    f"empty one is the single token {PADDING_ID}",
    "ids that occur in no split: RecBole counts its own tokens",
    "the recipe's β and ε of Adam, and its drift factors",
)


def export(rows: ExportRows, out: Path) -> None:
    """Raises `OutputError` if the folder isn't empty."""
    new_folder(out)
    folder = out / rows.name
    folder.mkdir()
    for split, parts in rows.splits():
        _write(
            folder / f"{rows.name}.{split}.inter",
            (hard_columns(p, rows.features, rows.label) for p in parts),
            rows.features,
        )
    copy_vocabularies(rows, folder)
    text = yaml.safe_dump(_config(rows, out), sort_keys=False)
    (out / "config.yaml").write_text(text, encoding="utf-8")
    usage = (
        "`config.yaml` is what RecBole's `run_recbole(model='DeepFM', config_file_list=[...])` "
        "takes;\nset `train_batch_size` and `learning_rate` by the lines above.\n"
    )
    text = explanation(rows, "RecBole", target=rows.label, losses=LOSSES, usage=usage)
    (out / "README.md").write_text(text, encoding="utf-8")


def _write(path: Path, tables: Iterable[pa.Table], features: FeatureSpec) -> None:
    types = dict.fromkeys(features.categorical, "token") | {
        s.name: "token_seq" for s in features.sequence
    }
    # Names and numbers need no quotes, and RecBole would read them as part of the header.
    options = pa.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    with path.open("wb") as file:
        for number, table in enumerate(tables):
            if number == 0:
                header = [f"{name}:{types.get(name, 'float')}" for name in table.column_names]
                file.write(("\t".join(header) + "\n").encode())
            for s in features.sequence:
                at = table.column_names.index(s.name)
                texts = [
                    " ".join(str(i) for i in row if i != PADDING_ID) or str(PADDING_ID)
                    for row in table[s.name].to_pylist()
                ]
                table = table.set_column(at, s.name, pa.array(texts))
            pa.csv.write_csv(table, file, options)


def _config(rows: ExportRows, out: Path) -> dict[str, Any]:
    history = next((f for f in rows.dataset.schema.fields if f.history_of is not None), None)
    f = rows.features
    columns = [*f.categorical, *f.numeric, *(s.name for s in f.sequence), rows.label]
    aliases = [s.name for s in f.sequence if history and s.target == history.history_of]
    return {
        "dataset": rows.name,
        "data_path": str(out.resolve()),
        "benchmark_filename": ["train", "valid", "test"],
        "USER_ID_FIELD": history.user if history else None,
        "ITEM_ID_FIELD": history.history_of if history else None,
        "alias_of_item_id": aliases or None,
        "LABEL_FIELD": rows.label,
        "load_col": {"inter": columns},
        "numerical_features": list(f.numeric),
        "train_neg_sample_args": None,
        "shuffle": False,
        "epochs": rows.dataset.recipe.epochs,
        "eval_args": {
            "split": {"RS": [0.8, 0.1, 0.1]},
            "group_by": "none",
            "order": "RO",
            "mode": "labeled",
        },
        "metrics": ["AUC", "LogLoss"],
        "valid_metric": "AUC",
    }
