"""What trains a candidate: this project's loop, and the same model by plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.training.logs import Rows
from diet_ray.models.catalogue import Candidate, build
from diet_ray.training.loop import fit, predict


class Training(Protocol):
    """One model, built and with its rows at hand."""

    def fit(self) -> None:
        """One epoch over the training rows in order: what is timed."""

    def scores(self) -> np.ndarray:
        """Of the test rows, after `fit`."""


Leg = Callable[[Candidate, Rows, int, int], Training]
"""From a candidate, rows, a batch size and a seed."""


class Ours:
    def __init__(self, candidate: Candidate, rows: Rows, batch_size: int, seed: int) -> None:
        self.candidate, self.rows, self.batch_size = candidate, rows, batch_size
        self.model = build(candidate, rows.features, seed)

    def fit(self) -> None:
        fit(self.model, [self.rows.train], self.candidate.optimizer, self.batch_size)

    def scores(self) -> np.ndarray:
        return predict(self.model, self.rows.test).numpy()


class Plain(Ours):
    """The same model with the same first weights, by a loop that anybody would write.

    All embeddings are one table, which is faster than a table a field; its gradient and Adam's
    moments are dense.
    """

    def fit(self) -> None:
        train, model = self.rows.train, self.model
        optimizer = torch.optim.Adam(model.parameters(), lr=self.candidate.learning_rate)
        model.train()
        for begin in range(0, len(train), self.batch_size):
            batch = train[begin : begin + self.batch_size]
            optimizer.zero_grad()
            loss = binary_cross_entropy_with_logits(model(batch), batch.label)
            loss.backward()
            optimizer.step()
