"""FuxiCTR's models, trained by its own `fit`.

Theirs: the model with its first weights, Adam, clipping, the loop over batches. Ours: the batches,
cut into columns of the types that its layers convert to before the clock starts, so that no loader
of theirs could be faster; and neither a validation nor a checkpoint at the end of the epoch. With
`own_loader`, batches come from its `NpzDataLoader` instead, in this process.

PyPI's package lacks most models, the repository has them (0245987 of June 2026 was measured). With
what both need, in a folder of its own:

    git clone https://github.com/reczoo/FuxiCTR FOLDER
    pip install --no-deps --target FOLDER scikit-learn joblib threadpoolctl narwhals cloudpickle \\
        tqdm h5py polars polars-runtime-32 keras_preprocessing
"""

from __future__ import annotations

import logging
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.training.logs import Rows
from diet_ray.data.batch import PADDING_ID, Batch, FeatureSpec
from diet_ray.models.catalogue import Candidate
from diet_ray.models.xdeepfm import NUM_FEATURE_MAPS

LABEL = "label"


def _deep(c: Candidate) -> dict[str, Any]:
    return {"hidden_units": list(c.hidden_sizes)}


def _crossed(c: Candidate) -> dict[str, Any]:
    return {"dnn_hidden_units": list(c.hidden_sizes), "num_cross_layers": c.num_cross_layers}


def _attention(c: Candidate) -> dict[str, Any]:
    return {
        "dnn_hidden_units": [],
        "attention_layers": c.num_cross_layers,
        "attention_dim": c.num_heads * c.embedding_size,
        "num_heads": c.num_heads,
    }


def _streams(c: Candidate) -> dict[str, Any]:
    sizes = list(c.hidden_sizes)
    return {"mlp1_hidden_units": sizes, "mlp2_hidden_units": sizes, "num_heads": c.num_heads}


def _history(prefix: str) -> dict[str, Any]:
    return {f"{prefix}_target_field": "movie_id", f"{prefix}_sequence_field": "favourites"}


MODELS: dict[str, tuple[str, Callable[[Candidate], dict[str, Any]]]] = {
    "lr": ("LR", lambda c: {}),
    "fm": ("FM", lambda c: {}),
    "dnn": ("DNN", _deep),
    "wide_deep": ("WideDeep", _deep),
    "deepfm": ("DeepFM", _deep),
    "nfm": ("NFM", _deep),
    "dcn": ("DCN", _crossed),
    "dcnv2": (
        "DCNv2",
        lambda c: {
            "parallel_dnn_hidden_units": list(c.hidden_sizes),
            "num_cross_layers": c.num_cross_layers,
        },
    ),
    "pnn": ("PNN", _deep),
    "autoint": ("AutoInt", _attention),
    "autoint_plus": (
        "AutoInt",
        lambda c: _attention(c) | {"dnn_hidden_units": list(c.hidden_sizes)},
    ),
    # Without a context, its gate is a constant behind a perceptron; here it is the constant.
    "finalmlp": ("FinalMLP", lambda c: _streams(c) | {"fs_hidden_units": []}),
    "xdeepfm": (
        "xDeepFM",
        lambda c: {
            "dnn_hidden_units": list(c.hidden_sizes),
            "cin_hidden_units": [NUM_FEATURE_MAPS] * c.num_cross_layers,
        },
    ),
    "fibinet": ("FiBiNET", _deep),
    "masknet": ("MaskNet", lambda c: {"dnn_hidden_units": list(c.hidden_sizes)}),
    "final": (
        "FinalNet",
        lambda c: {
            "block1_hidden_units": list(c.hidden_sizes),
            "block2_hidden_units": list(c.hidden_sizes),
            "use_feature_gating": True,
            "batch_norm": False,
        },
    ),
    "fwfm": ("FwFM", lambda c: {}),
    "fmfm": ("FmFM", lambda c: {}),
    "afm": ("AFM", lambda c: {"attention_dim": c.embedding_size}),
    "edcn": ("EDCN", lambda c: {"num_cross_layers": c.num_cross_layers}),
    "gdcn": ("GDCNP", _crossed),
    "destine": (
        "DESTINE",
        lambda c: _attention(c) | {"use_wide": False, "net_dropout": 0, "att_dropout": 0},
    ),
    "din": (
        "DIN",
        lambda c: {
            "dnn_hidden_units": list(c.hidden_sizes),
            "attention_hidden_units": [32],
            "attention_hidden_activations": "ReLU",
            **_history("din"),
        },
    ),
    "dien": (
        "DIEN",
        lambda c: {
            "dnn_hidden_units": list(c.hidden_sizes),
            "batch_norm": False,
            "dien_neg_seq_field": [],
            **_history("dien"),
        },
    ),
    "bst": (
        "BST",
        lambda c: {
            "dnn_hidden_units": list(c.hidden_sizes),
            "num_heads": c.num_heads,
            "stacked_transformer_layers": c.num_cross_layers,
            "seq_pooling_type": "target",
            **_history("bst"),
        },
    ),
}
"""Their class for each of our architectures, and what sizes it as the candidate."""
WITH_HISTORY = ("din", "dien", "bst")


class FuxiCTR:
    """Raises `ImportError` unless the library is on the path."""

    def __init__(
        self,
        candidate: Candidate,
        rows: Rows,
        batch_size: int,
        seed: int,
        *,
        own_loader: bool = False,
    ) -> None:
        import model_zoo
        from fuxictr.pytorch.torch_utils import seed_everything
        from model_zoo.GDCN.src.GDCN import GDCNP

        logging.getLogger().setLevel(logging.WARNING)
        name, arguments = MODELS[candidate.architecture]
        feature_map = _feature_map(rows.features, candidate.embedding_size)
        seed_everything(seed)
        self.model = (GDCNP if name == "GDCNP" else getattr(model_zoo, name))(
            feature_map,
            model_root="",
            verbose=0,
            metrics=["AUC"],
            optimizer="adam",
            loss="binary_crossentropy",
            learning_rate=candidate.learning_rate,
            embedding_dim=candidate.embedding_size,
            **arguments(candidate),
        )
        self.model.eval_step = lambda: None
        self.model.load_weights = lambda checkpoint: None
        self.test = _batches(rows.features, rows.test, 16_384)
        self.train: Iterable[dict[str, Any]] = _batches(rows.features, rows.train, batch_size)
        if own_loader:
            self.train = _npz_loader(feature_map, rows, batch_size)

    def fit(self) -> None:
        self.model.fit(self.train, epochs=1)

    def scores(self) -> np.ndarray:
        return self.model.predict(self.test)


def _feature_map(features: FeatureSpec, embedding_size: int) -> Any:
    from fuxictr.features import FeatureMap

    found = FeatureMap("log", "")
    shared = {"source": "", "padding_idx": PADDING_ID}
    found.features = OrderedDict(
        (name, shared | {"type": "categorical", "vocab_size": num_ids})
        for name, num_ids in zip(features.categorical, features.num_ids, strict=True)
    )
    for s in features.sequence:
        own = {"type": "sequence", "vocab_size": s.num_ids, "max_len": s.max_length}
        found.features[s.name] = shared | own | {"share_embedding": s.target}
    found.labels = [LABEL]
    found.num_fields = found.get_num_fields()
    found.default_emb_dim = embedding_size
    found.set_column_index()
    return found


def _batches(features: FeatureSpec, rows: Batch, batch_size: int) -> list[dict[str, Any]]:
    columns = {n: rows.categorical[:, i].long() for i, n in enumerate(features.categorical)}
    for i, s in enumerate(features.sequence):
        columns[s.name] = rows.sequence[:, i, : s.max_length].long().contiguous()
    columns[LABEL] = rows.label
    return [
        {name: column[i : i + batch_size] for name, column in columns.items()}
        for i in range(0, len(rows), batch_size)
    ]


def _npz_loader(feature_map: Any, rows: Rows, batch_size: int) -> Iterable[dict[str, Any]]:
    from fuxictr.pytorch.dataloaders.npz_dataloader import NpzDataLoader

    (whole,) = _batches(rows.features, rows.train, len(rows.train))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.npz"
        np.savez(path, **{name: column.numpy() for name, column in whole.items()})
        return NpzDataLoader(feature_map, str(path), batch_size=batch_size, num_workers=0)
