"""`diet report`: a comparison as tables and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    path: Annotated[Path, typer.Argument(help="A consistency.json.")],
    out: Annotated[Path | None, typer.Option(help="HTML file; default: beside it.")] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="The run, whose memory the page shows; default: the folder above."),
    ] = None,
) -> None:
    """Print a consistency.json as tables, and write its HTML report again."""
    from rich.console import Console

    from diet_ray.distillation.run import RunFolder
    from diet_ray.documents import load_json
    from diet_ray.memory.dataset import DistilledDataset
    from diet_ray.report.document import load_consistency
    from diet_ray.report.growth import load_earlier
    from diet_ray.report.page import write_report
    from diet_ray.report.tables import print_summary

    content = load_consistency(path)
    distilled = RunFolder(run or path.absolute().parent.parent).distilled
    manifest = distilled / "manifest.json"
    has_memory = run is not None or manifest.is_file()
    dataset = DistilledDataset.load(distilled) if has_memory else None
    console = Console()
    print_summary(content, console)
    page = write_report(
        content,
        out or path.with_name("report.html"),
        load_json(manifest) if has_memory else None,
        dataset=dataset,
        earlier=load_earlier(path),
    )
    console.print(f"Report: {page}", soft_wrap=True)
