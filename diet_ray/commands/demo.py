"""`diet demo`: all of it on the shipped sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diet_ray.commands.consistency import consistency
from diet_ray.commands.distill import distill
from diet_ray.errors import ConfigError


def demo(
    out: Annotated[
        Path,
        typer.Option(help="Folder of the run; an earlier demo is replaced, another run refused."),
    ] = Path("runs/demo"),
) -> None:
    """Distil the shipped KuaiRand sample, search on it, compare with full training, report."""
    import shutil

    from diet_ray.distillation.config import load_distill_config
    from diet_ray.distillation.run import RunFolder, load_run_config
    from diet_ray.errors import OutputError

    example = Path(__file__).parents[2] / "examples" / "kuairand"
    if not example.is_dir():
        raise ConfigError(f"{example}: no such folder: run the demo from a clone of the project")
    config = example / "distill.yaml"
    if RunFolder(out).config.exists():
        if load_run_config(RunFolder(out)).source != load_distill_config(config).source:
            raise OutputError(f"{out}: holds a run of another log: choose another --out")
        shutil.rmtree(out)
    distill(config, out)
    consistency(out, example / "candidates.yaml", evaluation_rows=4_000)
