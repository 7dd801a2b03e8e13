"""Speed of full training on one thread, against the libraries that people use.

    python benchmarks/training.py --fuxictr FOLDER --deepctr FOLDER --movielens PATH --json
    python benchmarks/training.py --fuxictr FOLDER --model deepfm --quick
    python benchmarks/training.py --fuxictr FOLDER --movielens PATH --parity

How to fill the folders is said in `benchmarks.training.fuxictr_leg` and `deepctr_leg`; a library
whose folder isn't named is left out, and the MovieLens log without its path. Prints one JSON
object, with everything under the name of the log and the batch size:

- `train_vs_fuxictr`, `train_vs_deepctr_torch`, `train_vs_plain`: by model, rows a CPU second of our
  loop over theirs, median of the turns. All sides have the same rows in memory, in the same order,
  model sizes, batches, and Adam at the same rate, no dropout, no regularisation. Each library
  trains its own model by its own `fit`, fed by a loader that cuts tensors; with `--own-loaders`
  also by its own, which was never the faster, and counts with the faster of the two.
- `legs`: by model, every leg's rows a second, by CPU time and by the clock on the wall, and the AUC
  on the test rows after the epoch with its seed SD.

A turn is one seed. `--parity` instead compares the AUC of every architecture that FuxiCTR has as
well, see `benchmarks.training.parity`. Progress goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from benchmarks.report import note
from benchmarks.training import deepctr_leg, fuxictr_leg
from benchmarks.training.legs import Leg, Ours, Plain
from benchmarks.training.logs import Rows, advertising, movielens
from benchmarks.training.parity import parity
from benchmarks.training.speed import OURS, by_turns, over_fastest
from diet_ray.models.catalogue import Candidate

MODELS = ("deepfm", "dcnv2", "autoint", "finalmlp")
NUM_HEADS = {"autoint": 1}
"""Where not 2. DeepCTR-Torch divides an embedding among the heads, FuxiCTR and we multiply it: with
one head, the three have the same layers."""
FUXICTR, DEEPCTR, PLAIN = "fuxictr", "deepctr_torch", "plain"
OWN_LOADER = "_own_loader"
LOGS = ("advertising", "movielens")
QUICK_ROWS = 32_768
NUM_TEST_ROWS = 50_000
"""Of the generated log."""


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    for folder in (arguments.fuxictr, arguments.deepctr):
        if folder is not None:
            sys.path.append(str(folder))
    seeds = range(1 if arguments.quick else arguments.seeds)
    if arguments.parity:
        models = arguments.model or list(fuxictr_leg.MODELS)
        num_rows = QUICK_ROWS if arguments.quick else arguments.rows
        report = parity(arguments.movielens, models, num_rows, arguments.batch_sizes[0], seeds)
    else:
        report = speed(arguments, seeds)
    report["load_average"] = os.getloadavg()[0]
    print(json.dumps(report, indent=None if arguments.json else 1))


def speed(arguments: argparse.Namespace, seeds: range) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for log, rows in logs(arguments).items():
        for batch_size in arguments.batch_sizes:
            found: dict[str, Any] = {"legs": {}}
            for name in arguments.model or MODELS:
                legs = legs_of(name, arguments)
                num_heads = NUM_HEADS.get(name, 2)
                candidate = Candidate(name=name, architecture=name, num_heads=num_heads)
                warm_up(legs, candidate, rows, batch_size)
                turns = by_turns(legs, candidate, rows, batch_size, seeds)
                for library in (FUXICTR, DEEPCTR, PLAIN):
                    if library in legs:
                        ratios = found.setdefault(f"train_vs_{library}", {})
                        ratios[name] = round(over_fastest(turns, library), 2)
                found["legs"][name] = {leg: t.summary for leg, t in turns.items()}
                note(f"{log} {batch_size} {name}: {json.dumps(found['legs'][name])}")
            report[f"{log}_{batch_size}"] = found
    return report


def logs(arguments: argparse.Namespace) -> dict[str, Rows]:
    num_rows = QUICK_ROWS if arguments.quick else arguments.rows
    found: dict[str, Rows] = {}
    if "advertising" in arguments.logs:
        found["advertising"] = advertising(num_rows, NUM_TEST_ROWS)
    if "movielens" in arguments.logs and arguments.movielens is not None:
        found["movielens"] = movielens(arguments.movielens).last(num_rows)
    return found


def legs_of(model: str, arguments: argparse.Namespace) -> dict[str, Leg]:
    legs: dict[str, Leg] = {OURS: Ours, PLAIN: Plain}
    if arguments.fuxictr is not None and model in fuxictr_leg.MODELS:
        legs[FUXICTR] = fuxictr_leg.FuxiCTR
        if arguments.own_loaders:
            legs[FUXICTR + OWN_LOADER] = partial(fuxictr_leg.FuxiCTR, own_loader=True)
    if arguments.deepctr is not None and model in deepctr_leg.MODELS:
        legs[DEEPCTR] = deepctr_leg.DeepCTR
        if arguments.own_loaders:
            legs[DEEPCTR + OWN_LOADER] = partial(deepctr_leg.DeepCTR, own_loader=True)
    return legs


def warm_up(legs: dict[str, Leg], candidate: Candidate, rows: Rows, batch_size: int) -> None:
    """A first optimiser imports half of torch, and a first batch allocates memory."""
    for leg in legs.values():
        leg(candidate, rows.first(2 * batch_size), batch_size, 0).fit()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fuxictr", type=Path, help="a checkout with what it needs beside it")
    parser.add_argument("--deepctr", type=Path, help="the folder DeepCTR-Torch was installed into")
    parser.add_argument("--movielens", type=Path, help="a copy of movielens-1m-liked, one file")
    parser.add_argument("--model", nargs="+", metavar="MODEL", help=f"default: {', '.join(MODELS)}")
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[512, 4_096])
    parser.add_argument("--logs", nargs="+", choices=LOGS, default=LOGS, metavar="LOG")
    parser.add_argument("--rows", type=int, default=131_072, help="of a log, for training")
    parser.add_argument("--seeds", type=int, default=3, help="turns")
    parser.add_argument("--own-loaders", action="store_true", help="the libraries' as well")
    parser.add_argument("--parity", action="store_true", help="AUC by architecture, not speed")
    parser.add_argument("--quick", action="store_true", help="one turn over a few rows")
    parser.add_argument("--json", action="store_true", help="on one line")
    arguments = parser.parse_args()
    if arguments.parity and (arguments.movielens is None or arguments.fuxictr is None):
        parser.error("--parity needs --movielens and --fuxictr")
    return arguments


if __name__ == "__main__":
    main()
