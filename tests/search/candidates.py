"""Candidates for tests: fast ones, and models that break."""

from __future__ import annotations

import os
import signal

from torch import Tensor

from diet_ray.data.batch import Batch
from diet_ray.models.base import HeadOutput
from diet_ray.models.catalogue import Candidate
from diet_ray.models.lr import LR

CANDIDATES = (
    Candidate(name="lr", architecture="lr", learning_rate=0.1, batch_size=128),
    Candidate(name="lr-again", architecture="lr", learning_rate=0.1, batch_size=128, num_heads=1),
    Candidate(name="dnn", architecture="dnn", learning_rate=0.01, batch_size=128),
    Candidate(
        name="dnn-small", architecture="dnn", embedding_size=2, learning_rate=0.01, batch_size=128
    ),
    Candidate(name="lr-slow", architecture="lr", learning_rate=1e-4, batch_size=128),
)


class Broken(LR):
    """Raises as soon as it sees a row."""

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        raise RuntimeError("no\nsuch luck")


class Deadly(LR):
    """Kills its process as soon as it sees a row."""

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


BROKEN = Candidate(name="broken", architecture="tests.search.candidates:Broken")
DEADLY = Candidate(name="deadly", architecture="tests.search.candidates:Deadly")
