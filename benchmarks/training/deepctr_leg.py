"""DeepCTR-Torch's models, trained by its own `fit`.

Theirs: the model with its first weights, Adam, the loop over batches. Ours: the place of torch's
`DataLoader`, which collates row by row, is taken by one that cuts tensors; not with `own_loader`.
No regularisation, and no linear part where our model has none.

    pip install --no-deps --target FOLDER deepctr-torch \\
        scikit-learn joblib threadpoolctl narwhals cloudpickle tqdm
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.training.logs import Rows
from diet_ray.models.catalogue import Candidate


def _attention(c: Candidate) -> dict[str, Any]:
    if c.num_heads != 1:
        raise ValueError("its layers are as wide as an embedding, ours only with one head")
    return {"dnn_hidden_units": (), "att_layer_num": c.num_cross_layers, "att_head_num": 1}


MODELS: dict[str, tuple[str, bool, Callable[[Candidate], dict[str, Any]]]] = {
    "deepfm": ("DeepFM", True, lambda c: {"dnn_hidden_units": c.hidden_sizes}),
    "dcn": (
        "DCN",
        False,
        lambda c: {
            "dnn_hidden_units": c.hidden_sizes,
            "cross_num": c.num_cross_layers,
            "l2_reg_cross": 0.0,
        },
    ),
    "dcnv2": (
        "DCN",
        False,
        lambda c: {
            "dnn_hidden_units": c.hidden_sizes,
            "cross_num": c.num_cross_layers,
            "cross_parameterization": "matrix",
            "l2_reg_cross": 0.0,
        },
    ),
    "autoint": ("AutoInt", False, _attention),
}
"""Their class for each of our architectures, whether it has a linear part, and its sizes."""


class TensorLoader:
    """In the place of `torch.utils.data.DataLoader`: the same batches, cut and not collated."""

    def __init__(self, dataset: Any, shuffle: bool, batch_size: int) -> None:
        if shuffle:
            raise ValueError("rows come in the order of time")
        self.tensors: tuple[Tensor, ...] = dataset.tensors
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for i in range(0, len(self.tensors[0]), self.batch_size):
            yield tuple(t[i : i + self.batch_size] for t in self.tensors)


class DeepCTR:
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
        import deepctr_torch.models
        from deepctr_torch.inputs import SparseFeat
        from deepctr_torch.models import basemodel

        basemodel.DataLoader = torch.utils.data.DataLoader if own_loader else TensorLoader
        name, has_linear, arguments = MODELS[candidate.architecture]
        features = rows.features
        columns = [
            SparseFeat(n, vocabulary_size=num_ids, embedding_dim=candidate.embedding_size)
            for n, num_ids in zip(features.categorical, features.num_ids, strict=True)
        ]
        linear = {"l2_reg_linear": 0.0} if name != "AutoInt" else {}
        self.model = getattr(deepctr_torch.models, name)(
            columns if has_linear else [],
            columns,
            l2_reg_embedding=0.0,
            seed=seed,
            **linear,
            **arguments(candidate),
        )
        optimizer = torch.optim.Adam(self.model.parameters(), lr=candidate.learning_rate)
        self.model.compile(optimizer, "binary_crossentropy")
        self.batch_size = batch_size
        # It works on one matrix of floating-point numbers, ids included.
        self.train = rows.train.categorical.float().numpy(), rows.train.label.numpy()
        self.test = rows.test.categorical.float().numpy()

    def fit(self) -> None:
        ids, label = self.train
        with contextlib.redirect_stdout(io.StringIO()):
            self.model.fit(
                [ids], label, batch_size=self.batch_size, epochs=1, verbose=0, shuffle=False
            )

    def scores(self) -> np.ndarray:
        return self.model.predict([self.test], batch_size=16_384).squeeze(1)
