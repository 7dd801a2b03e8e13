"""Proxies train side by side as each would alone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
import torch

from diet_ray.data.batch import Batch
from diet_ray.distillation.proxy import Proxies, Proxy
from tests.models.rows import FEATURES, candidate, random_batch

CANDIDATES = [
    candidate("deepfm", batch_size=16, dropout=0.2),
    candidate("pnn", batch_size=8),
    candidate("din", batch_size=16),
]
BATCHES = [random_batch(50, seed=0), random_batch(30, seed=1)]
HELD_OUT = torch.arange(80) % 7 == 0


def proxies() -> Proxies:
    return Proxies(CANDIDATES, FEATURES, seed=4)


def test_side_by_side_is_one_after_the_other() -> None:
    together = proxies()
    seen: list[int] = []
    for _ in range(2):
        logits, labels = together.train_stage(
            lambda: BATCHES, HELD_OUT, lambda batch: seen.append(len(batch))
        )
    assert seen == [50, 30, 50, 30]

    rows = [BATCHES[0][~HELD_OUT[:50]], BATCHES[1][~HELD_OUT[50:]]]
    alone = [Proxy(c, FEATURES, seed=4 + i) for i, c in enumerate(CANDIDATES)]
    for _ in range(2):
        expected = [proxy.train(rows) for proxy in alone]
    assert torch.equal(labels, torch.cat([b.label for b in rows]))
    assert torch.equal(logits, torch.stack(expected).mean(dim=0))
    for own, other in zip(together.all, alone, strict=True):
        for name, value in other.state().items():
            assert torch.equal(own.state()[name], value), name


def test_what_goes_wrong_in_one_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    # On one CPU they would train one after the other.
    monkeypatch.setattr(os, "cpu_count", lambda: len(CANDIDATES))
    found = proxies()
    num_calls = 0
    deadline = time.monotonic() + 20

    def rows() -> Iterator[Batch]:
        nonlocal num_calls
        num_calls += 1
        if num_calls == 2:
            raise OSError("shard 7 is gone")
        while time.monotonic() < deadline:
            yield BATCHES[0]

    with pytest.raises(OSError, match="shard 7"):
        found.train_stage(rows, torch.zeros(10_000_000, dtype=torch.bool))
    assert time.monotonic() < deadline, "the others went on"
