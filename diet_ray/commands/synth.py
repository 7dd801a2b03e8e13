"""`diet synth`: a log to try things on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def synth(
    out: Annotated[Path, typer.Argument(help="Folder for the Parquet files, one a day.")],
    rows: Annotated[int, typer.Option(help="Rows in all.", min=1)] = 1_000_000,
    seed: Annotated[int, typer.Option(help="Same seed, same log.", min=0)] = 0,
) -> None:
    """Write a synthetic click log with drift, new items, taste, crosses and noise."""
    from diet_ray.data.sources.synthetic import SyntheticConfig, write_synthetic

    write_synthetic(SyntheticConfig(num_rows=rows, seed=seed), out)
    Console().print(f"{rows:,} rows in {out}")
