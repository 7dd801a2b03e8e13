"""`diet search`: candidates ranked on a distilled dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from diet_ray.commands.candidates import read_candidates
from diet_ray.commands.options import Address, Candidates, EvaluationRows, Run, Seeds, Workers
from diet_ray.errors import ConfigError


def search(
    path: Run,
    candidates: Candidates = None,
    anchors: Annotated[
        Path | None,
        typer.Option(
            help="Full-run AUCs that you have, to calibrate the recipe on: YAML, `anchors:` with "
            "a number or a list (one a seed) for three or more candidates; or a consistency.json."
        ),
    ] = None,
    seeds: Seeds = 2,
    scheduler: Annotated[
        str,
        typer.Option(
            help="`all` trains every candidate to its end, `asha` stops the weak, `pbt` lets "
            "those that differ in rates alone learn from one another."
        ),
    ] = "all",
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Then train the best on the full log as well.")
    ] = False,
    top: Annotated[int, typer.Option(min=1, help="How many of the best `--confirm` trains.")] = 3,
    out: Annotated[Path | None, typer.Option(help="Results; default: RUN/search.")] = None,
    evaluation_rows: EvaluationRows = 20_000,
    evaluation_error: Annotated[
        float | None,
        typer.Option(
            min=1e-5,
            help="Judge on as few test rows as keep the standard error of a difference of AUCs "
            "below this, say 0.001; the run's proxies tell how many.",
        ),
    ] = None,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Search architectures on a distilled dataset: trains every candidate on it and ranks them.

    `places` in its table are those that a candidate may hold once noise is allowed for. A search
    that was cut off goes on where it stood: what is on record in OUT isn't trained again.
    """
    from diet_ray.cluster import connect
    from diet_ray.config import from_mapping
    from diet_ray.search import comparison
    from diet_ray.search.anchors import load_anchors
    from diet_ray.search.proposals import Proposals
    from diet_ray.search.trials import SearchConfig
    from diet_ray.search.workers import WorkersConfig

    chosen = read_candidates(candidates, searched=True)
    config = from_mapping(
        SearchConfig, {"seeds": list(range(seeds)), "scheduler": scheduler}, "--scheduler"
    )
    if anchors is not None and isinstance(chosen, Proposals):
        raise ConfigError("--anchors: takes listed candidates, not proposed ones")
    known = None if anchors is None else load_anchors(anchors, chosen)
    connect(address)
    comparison.search_run(
        path,
        chosen,
        config,
        WorkersConfig(num_workers=workers),
        out or path / "search",
        evaluation_rows,
        Console(),
        known,
        num_confirmed=top if confirm else 0,
        evaluation_error=evaluation_error,
    )
