"""`diet rollback`: an earlier stage's distilled dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def rollback(
    path: Annotated[Path, typer.Argument(help="Folder of a run.")],
    to: Annotated[
        int | None, typer.Option(help="Stage to go back to; without it, lists those kept.")
    ] = None,
) -> None:
    """Go back to an earlier stage: its memory becomes the current one and is published.

    Rows of later stages stay in the run's log: `diet update` distils them again. How many stages
    are kept says `kept_stages` in the configuration; 2 if left out.
    """
    from diet_ray.distillation.rollback import kept_stages, roll_back

    console = Console()
    if to is None:
        for stage in kept_stages(path):
            console.print(f"stage {stage.stage}: {stage.num_slots:,} slots", highlight=False)
        return
    dataset = roll_back(path, to)
    console.print(
        f"back at stage {to}: {dataset.num_slots:,} slots for "
        f"{dataset.manifest.num_rows_seen:,} rows in {path / 'distilled'}",
        soft_wrap=True,
    )
