"""Do distilled runs rank candidates as full runs do, and better than others at their cost?

    python benchmarks/ranking.py --movielens interactions.parquet --write
    python benchmarks/ranking.py --quick --json

For each log: full runs of all candidates, the curve (distilled sets of the shipped default at
several sizes, and the baselines at equal cost), the ablation, recipes and anchors, and the
stream's promise. What is measured is kept in one ledger a log below --out, so a run that is cut
off goes on, and what was found of it in one report a log; `--known benchmarks/results` begins with
the published ones. Prints one JSON object: {log: figures of the default size}; `--write` puts all
tables and plots into docs/, of every log that has a report.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch

from benchmarks.laboratory import recipes
from benchmarks.laboratory.ablation import ablation
from benchmarks.laboratory.bench import Bench
from benchmarks.laboratory.candidates import candidates_of
from benchmarks.laboratory.curve import point
from benchmarks.laboratory.full import full_runs
from benchmarks.laboratory.ledger import FORMAT, Ledger
from benchmarks.laboratory.logs import LogSource, open_log, sources
from benchmarks.laboratory.reports import LogReport
from benchmarks.laboratory.results import write_results
from benchmarks.laboratory.stream import by_stage
from benchmarks.report import note
from diet_ray.distillation.config import default_proxies
from diet_ray.search.agreement import Arm
from diet_ray.search.baselines import mean_ranks
from diet_ray.search.evaluation import evaluation_rows
from diet_ray.search.statistics import distinct

ROOT = Path(__file__).parents[1]
DEFAULT_FRACTION = 0.01
FRACTIONS = (1 / 200, DEFAULT_FRACTION, 1 / 60, 1 / 15, 1 / 5)
FULL_SEEDS = (0, 1, 2)
EVALUATION_ROWS = 20_000
QUICK_LOGS = ("kuairand",)
STREAM_LOGS = ("kuairand", "drift", "history")
MIN_DRAWS = 3
"""So that some candidates are left beside two dozen anchors."""
PARTS = ("curve", "ablation", "recipes", "stream")


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    begin_s = time.perf_counter()
    named = sources(arguments.movielens)
    names = arguments.logs or (QUICK_LOGS if arguments.quick else tuple(named))
    reports = {name: report_of(name, arguments) for name in reported(named, arguments)}
    if arguments.parts != []:
        known = dict.fromkeys((*names, *arguments.priors))
        benches = {name: make_bench(name, named[name], arguments) for name in known}
        priors = prior_scores(benches)
        if not priors:
            note("`prior` needs the full runs of other logs: it is left out, see --priors")
        for name in names:
            measure(benches[name], priors.get(name), reports[name], arguments)
            note(f"{name}: {time.perf_counter() - begin_s:.0f} s since the start")
    found = {
        name: report.figures(DEFAULT_FRACTION, distillation_passes())
        for name, report in reports.items()
    }
    found = {name: figures for name, figures in found.items() if figures}
    if arguments.write:
        write_results(found, over_logs(found), ROOT / "docs/results.md", ROOT / "docs/plots")
        points = json.dumps(curve_points(found), indent=1)
        (ROOT / "diet_ray/report/curve.json").write_text(points + "\n")
    if not arguments.logs and not arguments.quick:
        names = tuple(found)
    shown = {name: found[name] for name in names if name in found}
    print(json.dumps(shown, indent=None if arguments.json else 1))


def reported(named: Iterable[str], arguments: argparse.Namespace) -> list[str]:
    """The logs that can be measured, and those that were in an earlier call."""
    folders = [f / "reports" for f in (arguments.out, arguments.known) if f is not None]
    before = sorted(path.stem for folder in folders for path in folder.glob("*.json"))
    return list(dict.fromkeys((*named, *before)))


def report_of(name: str, arguments: argparse.Namespace) -> LogReport:
    file = f"reports/{name}.json"
    return LogReport(arguments.out / file, arguments.known and arguments.known / file)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logs", nargs="*", help="which logs to measure; all by default")
    parser.add_argument("--priors", nargs="*", default=(), help="logs for `prior` beside --logs")
    parser.add_argument("--movielens", type=Path, help="your copy of MovieLens-1M-liked, Parquet")
    parser.add_argument(
        "--parts", nargs="*", choices=PARTS, help="all by default; none measures nothing"
    )
    parser.add_argument("--fractions", nargs="*", type=float, help="rows of the set over the log's")
    parser.add_argument(
        "--seeds", type=int, default=1, help="distillations of each size below 1/15; one from there"
    )
    parser.add_argument("--draws", type=int, default=6, help="random candidates an architecture")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/ranking"), help="kept between runs")
    parser.add_argument("--known", type=Path, help="folder of ledgers and reports to begin with")
    parser.add_argument("--quick", action="store_true", help="one log at the default size")
    parser.add_argument("--write", action="store_true", help="rewrite docs/results.md and plots")
    parser.add_argument("--json", action="store_true", help="on one line")
    arguments = parser.parse_args()
    names = list(sources(arguments.movielens))
    for name in (*(arguments.logs or ()), *arguments.priors):
        if name not in names:
            parser.error(f"log {name} is none of {', '.join(names)} (--movielens adds its own)")
    if arguments.seeds < 1 or arguments.workers < 1 or arguments.draws < MIN_DRAWS:
        parser.error(f"--seeds and --workers are at least 1, --draws {MIN_DRAWS}")
    return arguments


def make_bench(name: str, source: LogSource, arguments: argparse.Namespace) -> Bench:
    log = open_log(name, source, arguments.out / "logs")
    candidates = candidates_of(log.features, arguments.draws)
    candidates = [candidates[i] for i in distinct([c.identity for c in candidates])]
    rows = evaluation_rows(log, EVALUATION_ROWS)
    known = arguments.known / f"{name}.json" if arguments.known else None
    ledger = Ledger(arguments.out / f"{name}.json", known)
    runs = full_runs(log, rows, candidates, FULL_SEEDS, ledger, arguments.workers)
    return Bench(
        name=name,
        log=log,
        source=source,
        candidates=tuple(candidates),
        train=log.load(log.train_stages),
        evaluation=rows,
        full=Arm.of([[run.evaluation for run in by_seed] for by_seed in runs]),
        full_seconds=float(np.mean([[run.seconds for run in r] for r in runs]) * len(runs)),
        ledger=ledger,
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
    bench: Bench, prior: np.ndarray | None, report: LogReport, arguments: argparse.Namespace
) -> None:
    """Puts the parts asked for into the log's report, one after the other."""
    parts = arguments.parts
    if parts is None:
        parts = ("curve",) if arguments.quick else PARTS
    sizes = arguments.fractions or ((DEFAULT_FRACTION,) if arguments.quick else FRACTIONS)
    sets = arguments.out / f"sets-{FORMAT}"
    report.begin([c.identity for c in bench.candidates])
    report.put(full_auc=bench.full.ranking.tolist())
    if "curve" in parts:
        for size in sizes:
            report.put_point(point(bench, size, arguments.seeds, prior, sets))
    if "ablation" in parts:
        report.put(ablation=ablation(bench, sets))
    if "recipes" in parts:
        scores = recipes.recipe_scores(bench, sets)
        report.put(
            recipes=recipes.agreements(bench, scores),
            anchors=[recipes.anchored(bench, scores, n) for n in recipes.NUM_ANCHORS],
            resolution=recipes.resolution_table(bench, sets),
        )
    if "stream" in parts and bench.name in STREAM_LOGS:
        report.put(stream=by_stage(bench))


def distillation_passes() -> float:
    """Row visits of a distillation over the log's rows: every proxy once over all, and scoring."""
    scoring = 2 / 3  # A forward pass and a backward pass to the activations.
    return len(default_proxies()) + scoring


def over_logs(report: dict[str, Any]) -> dict[str, Any]:
    """What can only be said of several logs together."""
    tables = {name: found["recipes"] for name, found in report.items() if "recipes" in found}
    if len(tables) < 2:
        return {}
    return {
        "recipe_labels": recipes.labels(),
        "left_out_choice": {name: recipes.left_out_choice(tables, name) for name in tables},
        "resolution": recipes.pooled([report[name]["resolution"] for name in tables]),
    }


def curve_points(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The curve as the package ships it: a point a size, of sizes measured on most logs."""
    sizes = sorted({p["fraction"] for found in report.values() for p in found["curve"]})
    points = []
    for size in sizes:
        known = {n: p for n, f in report.items() for p in f["curve"] if p["fraction"] == size}
        if 2 * len(known) <= len(report):
            continue
        visits = [p["row_visit_fraction"] for p in known.values()]
        points.append(
            {
                "row_visit_fraction": round(float(np.mean(visits)), 5),
                "logs": list(known),
                "resolved_pair_accuracy": [
                    round(p["resolved_pair_accuracy"], 3) for p in known.values()
                ],
            }
        )
    return points


if __name__ == "__main__":
    main()
