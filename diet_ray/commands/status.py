"""`diet status`: for schedulers that poll."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def status(path: Annotated[Path, typer.Argument(help="Folder of a run.")]) -> None:
    """Say as JSON what a run is doing (RUN/status.json).

    Exit code 0 finished, 2 failed or no run, 3 running, 4 stopped or gone; after 4 the same
    command goes on.
    """
    from diet_ray.monitoring.status_file import EXIT_CODES, read_status

    found = read_status(path)
    state = found.seen_at(time.time())
    typer.echo(json.dumps(asdict(found) | {"state": state}, indent=1))
    raise typer.Exit(EXIT_CODES[state])
