"""Speed of influence scoring: its kernels, its lists, and the whole of it over a long log.

    python benchmarks/influence.py --json
    python benchmarks/influence.py --quick --parts kernels slots
    python benchmarks/influence.py --folder FOLDER    # keeps the generated logs there

Prints one JSON object. What is compared is compared within a run:

- `kernels`: rows a second of all-parameter gradient norms over those of `torch.func`, of dattri
  (where `--dattri` says it is installed, see `benchmarks.scoring.dattri_norms`) and of a forward
  pass, and of last-layer norms over a forward pass; by model, `with_history` for a second set of
  fields. On one thread, by its CPU time, by turns.
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
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.scoring import kernels, pipeline, scale, slots

PARTS = ("kernels", "slots", "pipeline", "scale")


def main() -> None:
    arguments = parse()
    if arguments.dattri is not None:
        sys.path.append(str(arguments.dattri))
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
        found = measure_part(part, arguments.quick, arguments.model, folder)
        # Well above the two cores' own work, the clock on the wall says little.
        report["load_average"][part] = os.getloadavg()[0]
        # So that a run that is cut off has said what it knows.
        note(json.dumps(found))
        note(f"{part}: {time.perf_counter() - begin_s:.0f} s")
        report |= found
    return report


def measure_part(part: str, quick: bool, model: str, folder: Path) -> dict[str, Any]:
    if part == "kernels":
        return kernels.kernels(kernels.QUICK if quick else kernels.KernelSizes())
    if part == "slots":
        sizes = slots.QUICK if quick else slots.SlotSizes()
        return {"slots_by_rows_vs_forward": slots.slots_by_rows(sizes, model, folder)}
    if part == "pipeline":
        legs = pipeline.QUICK if quick else pipeline.PipelineSizes()
        return pipeline.pipeline(legs, model, folder)
    return scale.scale(scale.QUICK if quick else scale.ScaleSizes(), model, folder)


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
