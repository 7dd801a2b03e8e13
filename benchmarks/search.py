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
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import print_report
from benchmarks.searching import arms, stacked

PARTS = ("stacked", "movielens", "synthetic")


def main() -> None:
    arguments = parse()
    if arguments.movielens is None:
        arguments.parts = [part for part in arguments.parts if part != "movielens"]
    print_report(arguments, measure_part)


def measure_part(part: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    if part == "stacked":
        return {"stacked_speedup": stacked.stacked()}
    if part == "movielens":
        return {part: arms.compared(arms.movielens(arguments.movielens), folder)}
    found = arms.compared(arms.synthetic(arguments.rows), folder)
    return {part: found} | {key: found[key] for key in arms.HEADLINES}


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
