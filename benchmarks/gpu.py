"""Scoring and training on a GPU, as ratios to a bare forward pass and to one CPU thread.

    python benchmarks/gpu.py --json

Needs a GPU, and no Ray. Prints one JSON object, by model: rows a second of the forward pass, of
last-layer and whole gradient norms (those also by `torch.func`) and of gradient features, in
float32, TF32, bfloat16 and float16; how far norms are off a CPU's; rows a second of training at
several sizes of the mini-batch; and of distilled runs side by side.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor

from benchmarks.report import note
from benchmarks.scoring.features import features, random_batch
from benchmarks.scoring.kernels import forward, full_norms, last_layer_norms
from benchmarks.scoring.torch_func import torch_func_norms
from diet_ray.data.batch import Batch
from diet_ray.influence.gradients import row_gradients
from diet_ray.influence.projection import project
from diet_ray.models.base import Recommender
from diet_ray.models.catalogue import Candidate, build, core_candidates
from diet_ray.search.runs import DistilledRun, TrainingRows
from diet_ray.search.stacks import Member, StackedRun
from diet_ray.training.config import OptimizerConfig
from diet_ray.training.loop import fit
from diet_ray.training.recipe import matched_recipe

BATCH_ROWS = 65_536
CPU_ROWS = 16_384
WHOLE_ROWS = (512, 4_096, 16_384)
"""Of `torch.func`, which writes out every row's gradient; the fastest counts."""
ROUNDS = 7
NUM_FEATURES = 64
STEP_ROWS = (512, 4_096, 65_536)
STACK_SIZES = (1, 4, 16)
TRAINED = ("dnn", "deepfm", "dcnv2", "autoint", "din")
PARTS = ("scoring", "training", "stacked")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--json", action="store_true", help="on one line")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no GPU here: torch.cuda.is_available() is false")
    torch.set_num_threads(1)
    report: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}
    measure = {"scoring": scoring, "training": training, "stacked": stacked}
    for part in arguments.parts:
        begin_s = time.perf_counter()
        report[part] = measure[part]()
        note(f"{part}: {json.dumps(report[part])}")
        note(f"{part}: {time.perf_counter() - begin_s:.0f} s")
    print(json.dumps(report, indent=None if arguments.json else 1))


def scoring() -> dict[str, Any]:
    """By model, rows a second of each kernel and precision, ratios, and errors of whole norms."""
    found: dict[str, Any] = {}
    for name, spec in (("", features()), ("with_history: ", features(with_history=True))):
        rows = random_batch(spec, BATCH_ROWS, seed=0)
        for candidate in core_candidates():
            model = build(candidate, spec, seed=0).requires_grad_(False).eval()
            found[name + candidate.name] = _scored(model, rows)
    return found


def _scored(model: Recommender, rows: Batch) -> dict[str, float]:
    part = rows[:CPU_ROWS]
    cpu = _rows_per_s(lambda: full_norms(model, part), len(part), rounds=2)
    expected = full_norms(model, part).double()
    model, rows = model.cuda(), rows.to("cuda")
    found = {
        "forward": _rows_per_s(lambda: forward(model, rows), len(rows)),
        "last_layer": _rows_per_s(lambda: last_layer_norms(model, rows), len(rows)),
        "features": _rows_per_s(lambda: project_rows(model, rows), len(rows)),
    }
    for name, dtype, tf32 in (
        ("float32", None, False),
        ("tf32", None, True),
        ("bfloat16", torch.bfloat16, False),
        ("float16", torch.float16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        found[name] = _rows_per_s(lambda d=dtype: full_norms(model, rows, d), len(rows))
        error = (full_norms(model, rows, dtype)[: len(expected)].cpu().double() - expected).abs()
        found[f"{name}_median_error"] = float((error / expected).median())
        torch.backends.cuda.matmul.allow_tf32 = False
    whole = torch_func_norms(model)
    found["torch_func"] = max(
        _rows_per_s(lambda n=n: whole(rows[:n]), n, rounds=2) for n in WHOLE_ROWS
    )
    found["full_norm_vs_torch_func"] = found["float32"] / found["torch_func"]
    found["full_norm_vs_forward"] = found["float32"] / found["forward"]
    found["last_layer_vs_forward"] = found["last_layer"] / found["forward"]
    found["full_norm_vs_cpu_thread"] = found["float32"] / cpu
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def project_rows(model: Recommender, rows: Batch) -> Tensor:
    return project(row_gradients(model, rows, rows.label, "all"), NUM_FEATURES, 0)


def training() -> dict[str, Any]:
    """By model and size of the mini-batch, rows a second, and over one CPU thread's."""
    spec = features(with_history=True)
    rows = random_batch(spec, 8 * BATCH_ROWS, seed=0)
    there = rows.to("cuda")
    found: dict[str, Any] = {}
    for name in TRAINED:
        candidate = Candidate(name=name, architecture=name)
        for size in STEP_ROWS:
            num_rows = min(len(rows), 100 * size)
            part, own = there[:num_rows], rows[: min(8 * size, len(rows) // 4)]
            model = build(candidate, spec, seed=0).cuda()

            def run(model: Recommender = model, part: Batch = part, size: int = size) -> None:
                fit(model, [part], OptimizerConfig(), size)

            speed = _rows_per_s(run, num_rows, rounds=2)
            model = build(candidate, spec, seed=0)
            cpu = _rows_per_s(lambda m=model, p=own, s=size: fit(m, [p], OptimizerConfig(), s),
                              len(own), rounds=1)  # fmt: skip
            found[f"{name}, {size}"] = {
                "rows_per_s": round(speed),
                "vs_cpu_thread": round(speed / cpu, 2),
            }
    return found


def stacked() -> dict[str, Any]:
    """By model and number of runs side by side, seconds a run of 300 steps."""
    spec = features()
    rows = random_batch(spec, 6_000, seed=0)
    train = TrainingRows(rows, rows.label * 0.8 + 0.1, torch.ones(len(rows))).to("cuda")
    recipe = matched_recipe(num_rows_full=100 * len(rows), num_slots=len(rows))
    found: dict[str, Any] = {}
    for name in TRAINED[:-1]:
        candidate = Candidate(name=name, architecture=name)
        seconds = {}
        for size in STACK_SIZES:
            members = [Member(candidate, seed) for seed in range(size)]

            def run(members: list[Member] = members) -> None:
                made: StackedRun | DistilledRun = (
                    StackedRun(members, train, spec, recipe, "cuda")
                    if len(members) > 1
                    else DistilledRun(members[0].candidate, train, spec, recipe, 0, "cuda")
                )
                made.advance(300)

            seconds[str(size)] = round(1.0 / _rows_per_s(run, size, rounds=1), 4)
        found[name] = seconds
    return found


def _rows_per_s(run: Callable[[], object], num_rows: int, rounds: int = ROUNDS) -> float:
    """Median over rounds, after one that doesn't count; waits for the device."""
    run()
    speeds = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        begin_s = time.perf_counter()
        run()
        torch.cuda.synchronize()
        speeds.append(num_rows / (time.perf_counter() - begin_s))
    return statistics.median(speeds)


if __name__ == "__main__":
    main()
