"""The K most helpful and most harmful rows for each of many slots, against a forward pass.

A model is trained on the first quarter of a generated log; slots are rows of it, evenly spaced. The
log is streamed once more, and each batch is timed under a forward pass, under lists at full
last-layer width, and under lists of more slots at few dimensions. The lists' time begins at a row's
residual and last hidden vector, which any forward pass gives.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.scoring.encoded_log import write_synthetic_log
from diet_ray.data.batch import Batch
from diet_ray.data.log import PreparedLog
from diet_ray.influence.gradients import row_gradients
from diet_ray.influence.low_rank import Moments, best_low_rank
from diet_ray.influence.top_rows import TopRowsReducer
from diet_ray.models.base import Recommender
from diet_ray.models.catalogue import Candidate, build
from diet_ray.training.loop import fit

BATCH_ROWS = 16_384
TOP = 10
RANK = 8


@dataclass(frozen=True, kw_only=True)
class SlotSizes:
    num_rows: int = 1_000_000
    num_slots: int = 1_000
    num_projected_slots: int = 10_000


QUICK = SlotSizes(num_rows=50_000, num_slots=50, num_projected_slots=500)


class Stopwatch:
    """Adds up the seconds of this thread in `with` blocks."""

    def __init__(self) -> None:
        self.total_s = 0.0

    def __enter__(self) -> None:
        self._begin_s = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.total_s += time.thread_time() - self._begin_s


def last_layer_gradients(model: Recommender, batch: Batch) -> Tensor:
    """(B, H + 1)"""
    return row_gradients(model, batch, batch.label, "last_layer").last_layer


def slots_by_rows(sizes: SlotSizes, model_name: str, folder: Path) -> dict[str, Any]:
    """Seconds of the lists over seconds of a forward pass, by how slots are compared."""
    torch.set_num_threads(1)
    log = write_synthetic_log(sizes.num_rows, folder / f"synthetic-{sizes.num_rows}")
    candidate = Candidate(name=model_name, architecture=model_name)
    model = build(candidate, log.features, seed=0)
    training = log.batches(log.stages[: len(log.stages) // 4])
    trained = fit(model, training, candidate.optimizer, candidate.batch_size)
    print(f"{model_name} trained in {trained.seconds:.1f} s", file=sys.stderr, flush=True)
    slots = _evenly_spaced(model, log, sizes.num_projected_slots)
    stride = len(slots) // sizes.num_slots
    return stream(model.eval(), log, slots[::stride][: sizes.num_slots], slots)


def stream(
    model: Recommender, log: PreparedLog, slots: Tensor, projected_slots: Tensor
) -> dict[str, Any]:
    """`slots` (M, D) are compared at full width, `projected_slots` at `RANK` dimensions."""
    # Before the pass the rows' moments aren't known; those of the slots, rows as well, are.
    known = Moments.of(projected_slots)
    low_rank = best_low_rank(known, known, RANK)
    full = TopRowsReducer(slots, TOP)
    projected = TopRowsReducer(low_rank.slots(projected_slots), TOP)
    forward_s, full_s, projected_s = Stopwatch(), Stopwatch(), Stopwatch()
    first_row = 0
    for shard in log.batches(log.stages):
        for i in range(0, len(shard), BATCH_ROWS):
            batch = shard[i : i + BATCH_ROWS]
            row = torch.arange(first_row, first_row + len(batch))
            first_row += len(batch)
            with forward_s, torch.no_grad():
                model(batch)
            gradients = row_gradients(model, batch, batch.label, "last_layer")
            with full_s:
                full.update(gradients.last_layer, row)
            with projected_s:
                projected.update(low_rank.rows(gradients.last_layer), row)
    with full_s:
        moments = full.result().moments
    with projected_s:
        projected.result()
    return {
        f"full_width_{len(slots)}": full_s.total_s / forward_s.total_s,
        f"rank_{RANK}_{len(projected_slots)}": projected_s.total_s / forward_s.total_s,
        f"rank_{RANK}_relative_error": low_rank.relative_error(moments, known),
        "num_rows": first_row,
        "width": slots.shape[1],
        "forward_s": forward_s.total_s,
    }


def _evenly_spaced(model: Recommender, log: PreparedLog, num_rows: int) -> Tensor:
    """Last-layer gradients (M, D) of rows all over the log."""
    found: list[Tensor] = []
    total = sum(stage.num_rows for stage in log.stages)
    first_row = 0
    for shard in log.batches(log.stages):
        positions = torch.arange(num_rows) * total // num_rows - first_row
        first_row += len(shard)
        inside = positions[(positions >= 0) & (positions < len(shard))]
        if len(inside):
            found.append(last_layer_gradients(model, shard[inside]))
    return torch.cat(found)
