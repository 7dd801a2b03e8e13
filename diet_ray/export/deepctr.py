"""DeepCTR-Torch: Parquet with encoded ids, and its feature columns as JSON.

OUT/{train,valid,test}.parquet, OUT/feature_columns.json, and in OUT/README.md the lines of Python
that make `SparseFeat`, `DenseFeat` and `VarLenSparseFeat` of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diet_ray.data.batch import FeatureSpec
from diet_ray.export.files import copy_vocabularies, explanation, new_folder, write_parquet
from diet_ray.export.rows import ExportRows, hard_columns

LOSSES = (
    "weights become repetitions: its `fit` takes none",
    "targets outside [0, 1] are clipped",
    "metrics while training: they want hard labels, so `fit` with `verbose=0`",
    "the recipe's drift factors",
)
USAGE = """```python
import json
import numpy as np
import pandas as pd
from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat

def load(folder, embedding_dim=8):
    spec = json.load(open(f"{folder}/feature_columns.json"))
    columns = [SparseFeat(embedding_dim=embedding_dim, **c) for c in spec["sparse"]]
    columns += [DenseFeat(**c) for c in spec["dense"]]
    for c in spec["sequence"]:
        sparse = SparseFeat(embedding_dim=embedding_dim, **c["sparsefeat"])
        columns.append(VarLenSparseFeat(sparse, maxlen=c["maxlen"], combiner="mean"))
    def split(name):
        frame = pd.read_parquet(f"{folder}/{name}.parquet")
        inputs = {c.name: np.array(frame[c.name].tolist()) for c in columns}
        return inputs, frame[spec["label"]].to_numpy()
    return columns, split

columns, split = load(FOLDER)
inputs, target = split("train")
# model = deepctr_torch.models.DeepFM(columns, columns)
# model.compile("adam", "binary_crossentropy")  # or a torch optimiser, its rates as above
# model.fit(inputs, target, epochs=1, shuffle=False, verbose=0)
```
"""


def export(rows: ExportRows, out: Path) -> None:
    """Raises `OutputError` if the folder isn't empty."""
    new_folder(out)
    for split, parts in rows.splits():
        tables = (hard_columns(p, rows.features, rows.label) for p in parts)
        write_parquet(out / f"{split}.parquet", tables)
    content = feature_columns(rows.features, rows.label)
    (out / "feature_columns.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    copy_vocabularies(rows, out)
    text = explanation(rows, "DeepCTR-Torch", target=rows.label, losses=LOSSES, usage=USAGE)
    (out / "README.md").write_text(text, encoding="utf-8")


def feature_columns(features: FeatureSpec, label: str) -> dict[str, Any]:
    """Arguments of the library's feature columns, without the size of embeddings."""
    return {
        "label": label,
        "sparse": [
            {"name": name, "vocabulary_size": num_ids}
            for name, num_ids in zip(features.categorical, features.num_ids, strict=True)
        ],
        "dense": [{"name": name, "dimension": 1} for name in features.numeric],
        "sequence": [
            {
                "sparsefeat": {
                    "name": s.name,
                    "vocabulary_size": s.num_ids,
                    "embedding_name": s.target or s.name,
                },
                "maxlen": s.max_length,
            }
            for s in features.sequence
        ],
    }
