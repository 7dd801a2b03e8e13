"""`diet demo`: all of it on the shipped sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diet_ray.commands.consistency import consistency
from diet_ray.commands.distill import distill
from diet_ray.errors import ConfigError


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the run; an earlier demo is replaced.")] = (
        Path("runs/demo")
    ),
) -> None:
    """Distil the shipped KuaiRand sample, search on it, compare with full training, report."""
    import shutil

    from diet_ray.distillation.run import RunFolder

    example = Path(__file__).parents[2] / "examples" / "kuairand"
    if not example.is_dir():
        raise ConfigError(f"{example}: no such folder: run the demo from a clone of the project")
    if RunFolder(out).config.exists():
        shutil.rmtree(out)
    distill(example / "distill.yaml", out)
    consistency(out, example / "candidates.yaml", evaluation_rows=4_000)
