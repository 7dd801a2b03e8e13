"""Do distilled runs rank candidates as full runs do, and better than others at their cost?

    python benchmarks/ranking.py --movielens interactions.parquet
    python benchmarks/ranking.py --quick

For each log: full runs of all candidates (kept under --out, so paid for once), distilled sets of
the shipped default at each fraction of the rows, the baselines at equal cost, and the figures of
both. Prints one JSON object: {log: figures}, at the first fraction; `curve` holds the others.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch

from benchmarks.laboratory.candidates import candidates_of
from benchmarks.laboratory.distilled import distil
from benchmarks.laboratory.full import full_runs
from benchmarks.laboratory.logs import LogSource, open_log, sources
from benchmarks.laboratory.measure import figures, gain
from benchmarks.laboratory.methods import Bench, baseline_scores, distilled_scores
from diet_ray.data.log import PreparedLog
from diet_ray.search.agreement import Arm, ceiling
from diet_ray.search.baselines import mean_ranks
from diet_ray.search.evaluation import evaluation_rows
from diet_ray.search.statistics import distinct
from diet_ray.storage import Folder

FRACTIONS = (0.01, 1 / 200, 1 / 60, 1 / 15, 1 / 5)
FULL_SEEDS = (0, 1, 2)
EVALUATION_ROWS = 20_000
QUICK_LOGS = ("kuairand", "ids")


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    begin_s = time.perf_counter()
    named = sources(arguments.movielens)
    names = arguments.logs or (QUICK_LOGS if arguments.quick else tuple(named))
    out = Path(arguments.out)
    logs = {name: open_log(name, named[name], out / "logs") for name in names}
    benches = {name: make_bench(logs[name], arguments) for name in names}
    priors = prior_scores(benches)
    report: dict[str, Any] = {}
    for name in names:
        points = [
            measure(logs[name], named[name], benches[name], fraction, priors.get(name), arguments)
            for fraction in (arguments.fractions or FRACTIONS[: 1 if arguments.quick else None])
        ]
        report[name] = points[0] | {"curve": points}
        note(f"{name}: {json.dumps({k: v for k, v in points[0].items() if k != 'baselines'})}")
    note(f"all in {time.perf_counter() - begin_s:.0f} s")
    print(json.dumps(report, indent=None if arguments.json else 1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logs", nargs="*", help="which logs; all by default")
    parser.add_argument("--movielens", type=Path, help="your copy of MovieLens-1M-liked, Parquet")
    parser.add_argument("--fractions", nargs="*", type=float, help="rows of the set over the log's")
    parser.add_argument("--seeds", type=int, default=2, help="distillations of each kind")
    parser.add_argument("--draws", type=int, default=6, help="random candidates an architecture")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--out", default="runs/ranking", help="prepared logs and full runs")
    parser.add_argument("--quick", action="store_true", help="two logs, the first fraction")
    parser.add_argument("--json", action="store_true", help="on one line")
    return parser.parse_args()


def make_bench(log: PreparedLog, arguments: argparse.Namespace) -> Bench:
    candidates = candidates_of(log.features, arguments.draws)
    candidates = [candidates[i] for i in distinct([c.identity for c in candidates])]
    rows = evaluation_rows(log, EVALUATION_ROWS)
    folder = Folder.at(str(Path(arguments.out) / "full_runs"))
    runs = full_runs(log, rows, candidates, FULL_SEEDS, folder, arguments.workers)
    return Bench(
        candidates=tuple(candidates),
        features=log.features,
        train=log.load(log.train_stages),
        evaluation=rows,
        full=Arm.of([[runs[c.name, s].evaluation for s in FULL_SEEDS] for c in candidates]),
        num_workers=arguments.workers,
    )


def prior_scores(benches: dict[str, Bench]) -> dict[str, np.ndarray]:
    """Mean rank of each candidate on the other logs, by log; needs two logs."""
    reports = {name: as_report(b) for name, b in benches.items()}
    return {
        name: mean_ranks(b.candidates, [r for other, r in reports.items() if other != name])
        for name, b in benches.items()
        if len(benches) > 1
    }


def as_report(bench: Bench) -> dict[str, Any]:
    runs = zip(bench.candidates, bench.full.ranking.tolist(), strict=True)
    return {"candidates": [{"name": c.name, "full": {"auc": auc}} for c, auc in runs]}


def measure(
    log: PreparedLog,
    source: LogSource,
    bench: Bench,
    fraction: float,
    prior: np.ndarray | None,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """All figures of one log at one size of the set."""
    folder = Path(tempfile.mkdtemp(prefix="diet-ranking-"))
    try:
        sets = [distil(log, source, fraction, s, folder / str(s)) for s in range(arguments.seeds)]
    finally:
        shutil.rmtree(folder)
    scores = distilled_scores(bench, sets)
    others = baseline_scores(bench, sets)
    if prior is not None and np.isfinite(prior).all():
        others["prior"] = prior[:, None]
    full = bench.full
    return (
        {"fraction": fraction, "row_fraction": sets[0].row_fraction}
        | {"byte_fraction": sets[0].byte_fraction}
        | {"row_visit_fraction": sets[0].recipe.epochs * len(sets[0].train) / len(bench.train)}
        | figures(full, scores)
        | dict(ceiling(full))
        | gain(full, scores, others)
        | {"controls": controls(full, scores)}
        | {"baselines": {name: figures(full, b) for name, b in others.items()}}
        | {"distill_seconds": float(np.mean([s.seconds for s in sets]))}
    )


def controls(full: Arm, scores: np.ndarray) -> dict[str, float | None]:
    """Against shuffled full results: no method may look good there."""
    order = np.random.default_rng(0).permutation(len(scores))
    shuffled = Arm(ranking=full.ranking[order], regret=full.regret[order], blocks=full.blocks)
    found = figures(shuffled, scores)
    return {name: found[name] for name in ("kendall_tau", "resolved_pair_accuracy")}


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
