"""Whether our models learn what FuxiCTR's do: AUC after one epoch over the same rows.

Three trainings a seed: `ours` as shipped, `theirs`, and `matched`, which is our model with their
first weights' distributions and dense Adam. What `matched` doesn't close is in the model itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.report import note
from benchmarks.training.fuxictr_leg import MODELS, WITH_HISTORY, FuxiCTR
from benchmarks.training.legs import Leg, Ours, Plain
from benchmarks.training.logs import Rows, movielens
from benchmarks.training.speed import OURS, Turns, by_turns, seed_sd
from diet_ray.models.base import EMBEDDING_SD
from diet_ray.models.catalogue import Candidate

THEIR_EMBEDDING_SD = 1e-4
GATE = "gate.linear"
"""Of FINAL: its first weights are part of the model, there as here."""
MATCHED, THEIRS = "matched", "theirs"


class Matched(Plain):
    """Linear layers by Xavier's normal distribution without biases, and small embeddings."""

    def __init__(self, candidate: Candidate, rows: Rows, batch_size: int, seed: int) -> None:
        super().__init__(candidate, rows, batch_size, seed)
        torch.manual_seed(seed)
        for name, module in self.model.named_modules():
            if isinstance(module, nn.Linear) and name != GATE:
                nn.init.xavier_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.model.table.weight.mul_(THEIR_EMBEDDING_SD / EMBEDDING_SD)


def parity(
    path: Path, models: Sequence[str], num_rows: int, batch_size: int, seeds: Sequence[int]
) -> dict[str, Any]:
    """On the last `num_rows` training rows of the MovieLens log at `path`."""
    legs: dict[str, Leg] = {OURS: Ours, MATCHED: Matched, THEIRS: FuxiCTR}
    logs = {h: movielens(path, with_history=h).last(num_rows) for h in (False, True)}
    report = {}
    for name in (m for m in MODELS if m in models):
        candidate = Candidate(name=name, architecture=name)
        turns = by_turns(legs, candidate, logs[name in WITH_HISTORY], batch_size, seeds)
        report[name] = compared(turns)
        note(f"{name}: {report[name]}")
    return report


def compared(turns: Mapping[str, Turns]) -> dict[str, Any]:
    """Mean AUCs, pooled seed SDs, and whether means differ by at most two of them."""
    found: dict[str, Any] = {name: round(float(t.auc.mean()), 5) for name, t in turns.items()}
    for prefix, name in (("", OURS), ("matched_", MATCHED)):
        ours, theirs = turns[name].auc, turns[THEIRS].auc
        pooled = ((seed_sd(ours) ** 2 + seed_sd(theirs) ** 2) / 2) ** 0.5
        found[f"{prefix}seed_sd"] = round(pooled, 5)
        found[f"{prefix}within"] = bool(abs(ours.mean() - theirs.mean()) <= 2 * pooled)
    return found
