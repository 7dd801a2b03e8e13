"""What architecture search on a distilled dataset costs, against full training, and how it ranks.

    python benchmarks/search.py --json
    python benchmarks/search.py --folder FOLDER --movielens interactions.parquet
    python benchmarks/search.py --parts stacked --json

Prints one JSON object; what is compared is compared within the run:

- `synthetic`: a generated log of `--rows` rows, distilled at the default effort; the architectures
  that the catalogue began with, two seeds. `iteration_speedup`, everything counted (starting the
  search, its workers and trials, evaluation), by the clock with as many full runs at a time as
  there are cores; `amortised_speedup` with the distillation, projected to 40 candidates at the same
  cost each; either `_by_cpu_time`, of the full runs alone against that of all processes; the
  `resolved_pair_accuracy` of that very run; `search_overhead`, the share of the search's
  wall-clock outside training and evaluation.
- `movielens`: the same with 40 candidates that differ in architecture, sizes and rates, where
  `--movielens` gives the user's own copy of the log.
- `stacked`: seconds of eight seeds of a small model one at a time over side by side, on one core,
  `stacked_speedup`, and the largest difference of their AUCs.

`load_average` is the machine's after each part. Progress, and each part's figures once it is done,
go to standard error. A part that was cut off goes on in the same `--folder`: full runs are kept.
`benchmarks/training.py` compares full training with other libraries.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.searching import arms, stacked

PARTS = ("stacked", "movielens", "synthetic")


def main() -> None:
    arguments = parse()
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        report = measure(arguments, arguments.folder)
    else:
        with tempfile.TemporaryDirectory() as folder:
            report = measure(arguments, Path(folder))
    print(json.dumps(report, indent=None if arguments.json else 1))


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = {"load_average": {}}
    for part in arguments.parts:
        begin_s = time.perf_counter()
        if part == "stacked":
            found: dict[str, Any] = {"stacked_speedup": stacked.stacked()}
        elif part == "movielens":
            if arguments.movielens is None:
                continue
            found = {part: arms.compared(arms.movielens(arguments.movielens), folder)}
        else:
            found = {part: arms.compared(arms.synthetic(arguments.rows), folder)}
            found |= {key: found[part][key] for key in arms.HEADLINES}
        report["load_average"][part] = os.getloadavg()[0]
        print(json.dumps(found), file=sys.stderr, flush=True)
        print(f"{part}: {time.perf_counter() - begin_s:.0f} s", file=sys.stderr, flush=True)
        report |= found
    return report


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the generated log")
    parser.add_argument("--movielens", type=Path, help="interactions.parquet of MovieLens-1M-liked")
    parser.add_argument("--folder", type=Path, help="for logs and runs; default: a temporary one")
    parser.add_argument("--json", action="store_true", help="on one line")
    return parser.parse_args()


if __name__ == "__main__":
    main()
