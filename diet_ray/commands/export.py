"""`diet export`: a distilled dataset for another library."""

from __future__ import annotations

import importlib
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


class Library(StrEnum):
    fuxictr = "fuxictr"
    recbole = "recbole"
    deepctr = "deepctr"
    hf = "hf"


_MODULES = {Library.hf: "huggingface"}


def export(
    path: Annotated[Path, typer.Argument(help="Folder of a run that is distilled.")],
    out: Annotated[Path, typer.Argument(help="New folder.")],
    to: Annotated[
        Library,
        typer.Option(help="FuxiCTR, RecBole, DeepCTR-Torch, or Hugging Face datasets."),
    ],
    name: Annotated[
        str | None, typer.Option(help="Of the exported dataset; default: the run's folder name.")
    ] = None,
    evaluation_rows: Annotated[
        int, typer.Option(help="Rows of the test tail, in two halves: valid and test.", min=4)
    ] = 20_000,
    full: Annotated[
        bool, typer.Option("--full", help="Also all training rows, for a reference there.")
    ] = False,
) -> None:
    """Write a distilled dataset for another library, with the rows to judge models on.

    Soft labels go along everywhere. A library that takes no weights gets each row as often as its
    weight says. README.md in OUT says how to train there, and what the format loses.
    """
    from diet_ray.export.rows import ExportRows

    rows = ExportRows.of_run(path, name or path.resolve().name, evaluation_rows, with_full=full)
    module = _MODULES.get(to, to.value)
    importlib.import_module(f"diet_ray.export.{module}").export(rows, out)
    Console().print(f"{rows.dataset.num_slots:,} rows in {out}", soft_wrap=True)
