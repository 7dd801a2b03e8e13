"""`diet verify`: is a run, a memory or a distilled dataset whole; and back to what is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from diet_ray.errors import DataError, DistilledSetError


def verify(
    path: Annotated[
        str,
        typer.Argument(help="A run, its memory, or a distilled dataset; a path, or a URI."),
    ],
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Take the memory back to its last good stage. What is dropped is kept under "
            "memory/dropped.",
        ),
    ] = False,
) -> None:
    """Check every checksum, slot, weight and budget, and that no stage is missing.

    Exit code 0 if all is well, or is again after --repair; else 2.
    """
    from diet_ray.distillation.run import RunFolder
    from diet_ray.distillation.verification import repair_run, verify_dataset, verify_run
    from diet_ray.memory.repair import repair_memory
    from diet_ray.memory.store import read_identity
    from diet_ray.memory.verification import verify_memory
    from diet_ray.storage import Folder

    console = Console()
    folder = Folder.at(path)
    if folder.exists("manifest.json"):
        dataset = verify_dataset(folder)
        if repair:
            raise DistilledSetError(f"{folder}: is whole: a distilled dataset isn't repaired here")
        console.print(f"{folder}: {dataset.num_slots:,} slots, whole", soft_wrap=True)
        return
    is_run = folder.is_local and folder.exists("distill.json")
    if not is_run and not folder.exists("memory.json"):
        raise DataError(f"{folder}: no run, no memory and no distilled dataset lies here")
    run = RunFolder(Path(folder.path))
    if repair:
        repaired = repair_run(run) if is_run else repair_memory(folder, read_identity(folder)[0])
        for line in repaired.dropped:
            console.print(f"dropped: {line}", soft_wrap=True, highlight=False)
        where = "the beginning" if repaired.last_good is None else f"stage {repaired.last_good}"
        what = f"back at {where}" if repaired.dropped else f"nothing to repair, at {where}"
        console.print(f"{folder}: {what}", soft_wrap=True, highlight=False)
        return
    if is_run:
        found = verify_run(run)
        memory, problems = found.memory, found.problems
    else:
        memory = verify_memory(folder, read_identity(folder)[0])
        problems = memory.problems
    for stage, good in memory.stages.items():
        committed = good.committed
        console.print(
            f"stage {stage}: {committed.num_slots:,} slots, weight {committed.total_weight:,.0f}, "
            f"epoch {committed.epoch}",
            highlight=False,
        )
    console.print(f"log: {memory.log.num_updates} updates of the open stage", highlight=False)
    if problems:
        for line in problems[1:]:
            console.print(f"also: {line}", soft_wrap=True, highlight=False)
        raise DistilledSetError(problems[0])
    console.print(f"{folder}: whole", soft_wrap=True, highlight=False)
