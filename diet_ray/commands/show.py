"""`diet show`: what a distilled dataset holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def show(
    path: Annotated[Path, typer.Argument(help="A distilled dataset, or the run it belongs to.")],
    rows: Annotated[int, typer.Option(help="Slots to print, the heaviest first.", min=0)] = 10,
) -> None:
    """Say what a distilled dataset holds."""
    from diet_ray.memory.dataset import DistilledDataset

    folder = path / "distilled" if (path / "distilled").is_dir() else path
    dataset = DistilledDataset.load(folder)
    frame = dataset.to_pandas(decode=True)
    console = Console()
    console.print(
        f"{dataset.num_slots:,} slots for {dataset.manifest.num_rows_seen:,} rows "
        f"({dataset.row_fraction:.2%} of the rows, {dataset.byte_fraction:.2%} of the bytes), "
        f"{len(dataset.manifest.stages)} stages"
    )
    console.print(f"Recipe: {asdict(dataset.recipe)}")
    if rows:
        console.print(frame.nlargest(rows, "_weight").to_string(index=False))
