"""`diet distill`: a whole log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from diet_ray.commands.distilled import print_distilled
from diet_ray.commands.options import Address


def distill(
    config: Annotated[Path, typer.Option(help="YAML file: source, schema, budget and settings.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run; default: runs/NAME for NAME/distill.yaml."),
    ] = None,
    effort: Annotated[
        str | None,
        typer.Option(
            help="In place of the configuration's budget: `low`, `medium` or `high` keeps 1/200, "
            "1/100 or 1/15 of the rows. More rows rank better and cost each candidate more."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what it would take; starts and writes nothing."),
    ] = False,
    price_per_hour: Annotated[
        float | None, typer.Option(help="Of the machines, for the cost that --dry-run says.")
    ] = None,
    address: Address = None,
) -> None:
    """Distil a whole log. A run that was killed goes on where it stood when called again."""
    from dataclasses import replace

    from diet_ray.cluster import connect
    from diet_ray.commands.dry_run import print_dry_run
    from diet_ray.config import from_mapping
    from diet_ray.distillation import run
    from diet_ray.distillation.budget import BudgetConfig
    from diet_ray.distillation.config import load_distill_config

    settings = load_distill_config(config)
    if effort is not None:
        kept = {"boundary_factor": settings.budget.boundary_factor}
        budget = from_mapping(BudgetConfig, {"effort": effort} | kept, "--effort")
        settings = replace(settings, budget=budget)
    if dry_run:
        print_dry_run(settings, price_per_hour, Console())
        return
    connect(address)
    target = out or Path("runs") / config.parent.resolve().name
    print_distilled(run.distill(settings, target), target)
