"""The proxy: one model trained along the stream, once over every row.

It predicts a row before it trains on it, so its residuals are honest, and its state at the start
of a stage is what influence is scored under.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import Recommender
from diet_ray.models.catalogue import Candidate, build
from diet_ray.models.growth import grow
from diet_ray.training.loop import fit, predict
from diet_ray.training.optimizer import ClickOptimizer

_MODEL, _OPTIMIZER = "model.", "optimizer."


class Proxy:
    """Model and optimiser of the proxy; grows with the vocabularies."""

    def __init__(
        self, candidate: Candidate, features: FeatureSpec, seed: int, device: str = "cpu"
    ) -> None:
        self.candidate = candidate
        self.seed = seed
        self.device = device
        self.model: Recommender = build(candidate, features, seed).to(device)
        self.optimizer = ClickOptimizer(self.model, candidate.optimizer)

    def grow(self, features: FeatureSpec) -> None:
        """Makes room for ids that a stage admits; what is known stays as it is."""
        if features == self.model.features:
            return
        self.model = grow(self.model, features, self.seed)
        self.optimizer = self.optimizer.grow(self.model)

    def train_stage(
        self, batches: Iterable[Batch], on_rows: Callable[[Batch], None] | None = None
    ) -> np.ndarray:
        """Trains once over a stage's rows, in order, in mini-batches cut within the stage.

        `on_rows` sees every incoming batch. Returns the logits predicted before training, float32
        (rows of the stage,).
        """
        honest: list[Tensor] = []

        def watched() -> Iterator[Batch]:
            for batch in batches:
                if on_rows is not None:
                    on_rows(batch)
                yield batch

        fit(
            self.model,
            watched(),
            self.optimizer,
            self.candidate.batch_size,
            on_step=lambda _, logit: honest.append(logit),
        )
        return torch.cat(honest).cpu().numpy() if honest else np.empty(0, np.float32)

    def predict(self, batch: Batch) -> Tensor:
        """Logits (B,) on the CPU."""
        return predict(self.model, batch.to(self.device)).cpu()

    def snapshot(self) -> Recommender:
        """A frozen copy of the model as it is now."""
        return copy.deepcopy(self.model).requires_grad_(False)

    def weights(self) -> dict[str, Tensor]:
        """CPU copies of the model's weights, as scorers load them."""
        return {k: v.detach().to("cpu", copy=True) for k, v in self.model.state_dict().items()}

    def state(self) -> dict[str, Tensor]:
        """All that continuing bit for bit needs."""
        state = {_MODEL + k: v for k, v in self.weights().items()}
        optimizer = self.optimizer.state_dict()
        return state | {_OPTIMIZER + k: v.cpu() for k, v in optimizer.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Inverse of `state`, for a proxy of the same features."""
        model = {k.removeprefix(_MODEL): v for k, v in state.items() if k.startswith(_MODEL)}
        optimizer = {
            k.removeprefix(_OPTIMIZER): v for k, v in state.items() if k.startswith(_OPTIMIZER)
        }
        self.model.load_state_dict(model)
        self.optimizer.load_state_dict({k: v.to(self.device) for k, v in optimizer.items()})
