"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[Path, typer.Argument(help="Folder of a run, as `diet distill --out` made it.")]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster to join; without it RAY_ADDRESS, or a local one is started."),
]
Seeds = Annotated[
    int,
    typer.Option(
        help="Independent trainings of every candidate; from two on, their noise is estimated.",
        min=1,
    ),
]
Candidates = Annotated[
    Path | None,
    typer.Option(
        "--candidates",
        help="YAML file with `candidates:` (list, grid or random; for `diet search` also optuna); "
        "default: the whole catalogue.",
    ),
]
Workers = Annotated[
    int | None, typer.Option(help="Training processes; default: one for each GPU, or CPU.", min=1)
]
EvaluationRows = Annotated[
    int, typer.Option(help="Rows of the test tail that every run is judged on.", min=4)
]
