"""`diet consistency`: the distilled ranking against full-data training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from diet_ray.commands.candidates import read_candidates
from diet_ray.commands.options import Address, Candidates, EvaluationRows, Run, Seeds, Workers


def consistency(
    path: Run,
    candidates: Candidates = None,
    seeds: Seeds = 2,
    out: Annotated[Path | None, typer.Option(help="Results; default: RUN/consistency.")] = None,
    evaluation_rows: EvaluationRows = 20_000,
    workers: Workers = None,
    baselines: Annotated[
        bool, typer.Option(help="Also run what a distilled dataset must beat.")
    ] = True,
    address: Address = None,
) -> None:
    """Check the distilled ranking against full-data training; writes consistency.json, a report."""
    from diet_ray.cluster import connect
    from diet_ray.search import comparison
    from diet_ray.search.baselines import BASELINES
    from diet_ray.search.consistency import ConsistencyConfig
    from diet_ray.search.workers import WorkersConfig

    chosen = read_candidates(candidates)
    config = ConsistencyConfig(
        seeds=tuple(range(seeds)),
        evaluation_rows=evaluation_rows,
        workers=WorkersConfig(num_workers=workers),
        baselines=BASELINES if baselines else (),
    )
    connect(address)
    comparison.compare_run(path, chosen, config, out or path / "consistency", Console())
