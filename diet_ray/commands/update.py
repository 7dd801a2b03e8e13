"""`diet update`: a new day."""

from __future__ import annotations

from typing import Annotated

import typer

from diet_ray.commands.distilled import print_distilled
from diet_ray.commands.options import Address, Run


def update(
    path: Run,
    log: Annotated[
        list[str] | None, typer.Option(help="New files, in time order; may be given repeatedly.")
    ] = None,
    sort: Annotated[bool, typer.Option(help="Sort the new rows by time first.")] = False,
    address: Address = None,
) -> None:
    """Add a new day to a run without reading history again.

    Without --log, finishes an update that was killed.
    """
    from dataclasses import replace

    from diet_ray.cluster import connect
    from diet_ray.distillation import run

    source = None
    if log:
        known = run.load_run_config(run.RunFolder(path)).source
        source = replace(known, paths=tuple(log), sort=sort, synthetic=None)
    connect(address)
    print_distilled(run.update(path, source), path)
