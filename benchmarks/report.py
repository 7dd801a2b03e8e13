"""What a benchmark of several parts does with its arguments and its report."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def print_report(
    arguments: argparse.Namespace,
    measure_part: Callable[[str, argparse.Namespace, Path], dict[str, Any]],
) -> None:
    """Measures `arguments.parts` in `arguments.folder`, or a temporary one, and prints one object.

    With each part goes the machine's load after it. `arguments.json`: on one line.
    """
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        report = _measured(arguments, measure_part, arguments.folder)
    else:
        with tempfile.TemporaryDirectory() as folder:
            report = _measured(arguments, measure_part, Path(folder))
    print(json.dumps(report, indent=None if arguments.json else 1))


def _measured(
    arguments: argparse.Namespace,
    measure_part: Callable[[str, argparse.Namespace, Path], dict[str, Any]],
    folder: Path,
) -> dict[str, Any]:
    report: dict[str, Any] = {"load_average": {}}
    for part in arguments.parts:
        begin_s = time.perf_counter()
        found = measure_part(part, arguments, folder)
        # Well above the two cores' own work, the clock on the wall says little.
        report["load_average"][part] = os.getloadavg()[0]
        # So that a run that is cut off has said what it knows.
        note(json.dumps(found))
        note(f"{part}: {time.perf_counter() - begin_s:.0f} s")
        report |= found
    return report


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
