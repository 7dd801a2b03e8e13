"""`diet doctor`: what to change before a run."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from diet_ray.doctor.finding import Finding

SIGNS = {"ok": "ok", "warning": "warning", "failure": "FAILURE"}


def doctor(
    out: Annotated[Path, typer.Option(help="Where runs are to go.")] = Path("runs"),
    address: Annotated[
        str | None,
        typer.Option(help="Also the cluster there; default: RAY_ADDRESS, else this machine alone."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
) -> None:
    """Check machine, versions, storage and cluster, and say what to change.

    Exit code 0 if a run can go ahead, warnings or not; 2 if something has to be changed first.
    """
    from diet_ray.doctor.machine import machine
    from diet_ray.doctor.storage import storage

    joins = address or os.environ.get("RAY_ADDRESS")
    findings = machine(starts_head=not joins) + storage(out)
    if joins:
        from diet_ray.cluster import connect
        from diet_ray.doctor.cluster import cluster

        connect(address)
        findings += cluster(out.absolute())
    if as_json:
        typer.echo(json.dumps([asdict(f) for f in findings], indent=1))
    else:
        Console().print(table(findings))
    if any(f.status == "failure" for f in findings):
        raise typer.Exit(2)


def table(findings: list[Finding]) -> Table:
    shown = Table(box=None, pad_edge=False)
    for heading in ("", "", "found", "to do"):
        shown.add_column(heading, overflow="fold")
    for f in findings:
        style = {"ok": "", "warning": "yellow", "failure": "bold red"}[f.status]
        shown.add_row(
            f"[{style}]{SIGNS[f.status]}[/]" if style else "ok", f.subject, f.found, f.advice
        )
    return shown
