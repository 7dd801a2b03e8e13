"""Gradient norms of every parameter, and of the last layer, against other ways and a forward pass.

One thread, one batch, one model; each contender works on chunks of the size that is best for it.
Those that write out every row's gradient get the batch's first rows only, as their speed doesn't
depend on how many there are. Norms compiled are held against a forward pass as it is and compiled.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.scoring.dattri_norms import dattri_squared_norms
from benchmarks.scoring.features import features, random_batch
from benchmarks.scoring.timing import Contender, Speed, by_turns
from benchmarks.scoring.torch_func import torch_func_norms
from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.influence.gradients import last_layer_squared_norm, row_gradients, squared_norm
from diet_ray.models.base import Recommender
from diet_ray.models.catalogue import Candidate, build, core_candidates
from diet_ray.scoring.compiled import CompiledScorer

CHUNK_SIZES = (1_024, 4_096, 16_384)
WHOLE_CHUNK_SIZES = (1, 2, 8, 32)
"""Of contenders that hold every row's whole gradient."""
RATIOS = {
    "full_norm_vs_torch_func": ("full", "torch_func"),
    "full_norm_vs_dattri": ("full", "dattri"),
    "full_norm_vs_forward": ("full", "forward"),
    "last_layer_vs_forward": ("last_layer", "forward"),
    "compiled_norm_vs_full_norm": ("compiled", "full"),
    "compiled_norm_vs_forward": ("compiled", "forward"),
    "compiled_norm_vs_compiled_forward": ("compiled", "compiled_forward"),
}
COMPILED_CHUNK_SIZE = 4_096


@dataclass(frozen=True, kw_only=True)
class KernelSizes:
    num_rows: int = 16_384
    num_whole_rows: int = 64
    """Of contenders that hold every row's whole gradient."""
    rounds: int = 15


QUICK = KernelSizes(num_rows=4_096, num_whole_rows=16, rounds=3)


def full_norms(model: Recommender, batch: Batch, precision: torch.dtype | None = None) -> Tensor:
    """(B,): over all parameters, in closed form."""
    return squared_norm(row_gradients(model, batch, batch.label, "all", precision)).sqrt()


def last_layer_norms(model: Recommender, batch: Batch) -> Tensor:
    return last_layer_squared_norm(row_gradients(model, batch, batch.label, "last_layer")).sqrt()


@torch.no_grad()
def forward(model: Recommender, batch: Batch) -> Tensor:
    return model(batch)


def kernels(sizes: KernelSizes) -> dict[str, Any]:
    """Ratios of rows a second by model, and what they were measured at."""
    torch.set_num_threads(1)
    report: dict[str, Any] = _of(features(), sizes)
    report["with_history"] = _of(features(with_history=True), sizes)
    return report


def _of(spec: FeatureSpec, sizes: KernelSizes) -> dict[str, Any]:
    batch = random_batch(spec, sizes.num_rows, seed=0)
    report: dict[str, Any] = {key: {} for key in RATIOS}
    report |= {"full_norm_rows_per_s": {}, "chunk_rows": {}, "full_norm_error": {}}
    for candidate in core_candidates():
        speeds, error = measure(candidate, spec, batch, sizes)
        for key, (ours, theirs) in RATIOS.items():
            if theirs in speeds:
                report[key][candidate.name] = speeds[ours].over(speeds[theirs])
        rates = speeds["full"].rows_per_s
        report["full_norm_rows_per_s"][candidate.name] = float(sorted(rates)[len(rates) // 2])
        report["chunk_rows"][candidate.name] = {n: s.chunk_rows for n, s in speeds.items()}
        report["full_norm_error"][candidate.name] = error
        shown = {key: round(report[key].get(candidate.name, 0.0), 3) for key in RATIOS}
        print(f"{candidate.name}: {shown}", file=sys.stderr, flush=True)
    return report


def measure(
    candidate: Candidate, spec: FeatureSpec, batch: Batch, sizes: KernelSizes
) -> tuple[dict[str, Speed], float]:
    """Speeds by contender, and the largest relative difference of the full norm from that of
    `torch.func`."""
    model = build(candidate, spec, seed=0).eval()
    whole_rows = min(sizes.num_whole_rows, len(batch))
    whole = {"torch_func": torch_func_norms(model)}
    try:
        whole["dattri"] = dattri_squared_norms(model)
    except ImportError as e:
        print(f"without dattri: {e}", file=sys.stderr)
    contenders = {
        name: Contender(
            run=lambda rows, f=f: f(model, rows), num_rows=len(batch), chunk_sizes=CHUNK_SIZES
        )
        for name, f in (
            ("full", full_norms),
            ("last_layer", last_layer_norms),
            ("forward", forward),
        )
    }
    if shutil.which("g++"):
        contenders |= {
            name: Contender(
                run=CompiledScorer(f, COMPILED_CHUNK_SIZE, exact=True),
                num_rows=len(batch),
                chunk_sizes=(COMPILED_CHUNK_SIZE,),
            )
            for name, f in (
                ("compiled", lambda rows: {"full": full_norms(model, rows)}),
                ("compiled_forward", lambda rows: {"loss": forward(model, rows)}),
            )
        }
    contenders |= {
        name: Contender(run=f, num_rows=whole_rows, chunk_sizes=WHOLE_CHUNK_SIZES)
        for name, f in whole.items()
    }
    rows = batch[:whole_rows]
    reference = whole["torch_func"](rows)
    error = ((full_norms(model, rows) - reference).abs() / reference).max()
    return by_turns(contenders, batch, sizes.rounds), float(error)
