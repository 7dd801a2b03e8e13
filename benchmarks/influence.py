"""Speed of influence scoring: its kernels, its lists, and the whole of it over a long log.

    python benchmarks/influence.py --json
    python benchmarks/influence.py --quick --parts kernels slots
    python benchmarks/influence.py --folder FOLDER    # keeps the generated logs there

Prints one JSON object. What is compared is compared within a run:

- `kernels`: rows a second of all-parameter gradient norms over those of `torch.func`, of dattri
  (where `--dattri` says it is installed, see `benchmarks.scoring.dattri_norms`) and of a forward
  pass, and of last-layer norms over a forward pass; and, where there is a C++ compiler, of norms
  compiled; by model, `with_history` for a second set of fields. On one thread, by its CPU time, by
  turns.
- `slots`: seconds of the lists of most helpful and harmful rows over those of a forward pass.
- `pipeline`: rows a second of `score_log` over those of a plain loop in as many processes, its
  start-up, its gain from a second core, and the growth of its memory from a log to one four times
  as long. By the clock on the wall: leave the machine alone meanwhile.
- `scale`: the cost model of `benchmarks.scoring.cost_model`, its error on four simulated nodes, and
  what it says about larger logs.

`load_average` is the machine's after each part. Progress, and each part's figures once it is done,
go to standard error.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import print_report
from benchmarks.scoring import kernels, pipeline, scale, slots

PARTS = ("kernels", "slots", "pipeline", "scale")


def main() -> None:
    arguments = parse()
    if arguments.dattri is not None:
        sys.path.append(str(arguments.dattri))
    print_report(arguments, measure_part)


def measure_part(part: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    quick, model = arguments.quick, arguments.model
    if part == "kernels":
        return kernels.kernels(kernels.QUICK if quick else kernels.KernelSizes())
    if part == "slots":
        sizes = slots.QUICK if quick else slots.SlotSizes()
        return {"slots_by_rows_vs_forward": slots.slots_by_rows(sizes, model, folder)}
    if part == "pipeline":
        legs = pipeline.QUICK if quick else pipeline.PipelineSizes()
        return pipeline.pipeline(legs, model, folder)
    return scale.scale(scale.QUICK if quick else scale.ScaleSizes(), model, folder)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--model", default="dnn", help="architecture of all parts but the kernels")
    parser.add_argument("--folder", type=Path, help="for generated logs; default: a temporary one")
    parser.add_argument("--dattri", type=Path, help="the folder that dattri was installed into")
    parser.add_argument("--quick", action="store_true", help="a twentieth of everything")
    parser.add_argument("--json", action="store_true", help="on one line")
    return parser.parse_args()


if __name__ == "__main__":
    main()
