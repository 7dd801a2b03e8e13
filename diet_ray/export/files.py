"""Writing an export: a new folder, Parquet in parts, the vocabularies, and a page that explains."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from diet_ray.errors import OutputError
from diet_ray.export.rows import ExportRows
from diet_ray.memory.manifest import VOCABULARY


def new_folder(path: Path) -> None:
    """Raises `OutputError` if something is there."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise OutputError(f"{path}: exists and isn't empty: choose another folder")
    path.mkdir(parents=True, exist_ok=True)


def write_parquet(path: Path, tables: Iterable[pa.Table]) -> None:
    """At least one table; all have the same columns."""
    writer: pq.ParquetWriter | None = None
    try:
        for table in tables:
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def copy_vocabularies(rows: ExportRows, path: Path) -> None:
    """Which value an id stands for, of the values that occur in the slots."""
    source = Path(rows.dataset.path) / VOCABULARY
    if source.is_dir():
        shutil.copytree(source, path / VOCABULARY)


def explanation(
    rows: ExportRows, library: str, *, target: str, losses: Iterable[str], usage: str
) -> str:
    """The content of an export's README.md; `target` is the column of soft labels."""
    recipe, dataset = rows.dataset.recipe, rows.dataset
    pace = math.sqrt(recipe.steps_per_step)
    full = "- `full`: all training rows of the log, observed labels\n" if rows.with_full else ""
    lost = "\n".join(f"- {loss}" for loss in losses)
    return f"""# {rows.name} for {library}

A distilled click log: {dataset.num_slots:,} rows that stand for \
{dataset.manifest.num_rows_seen:,}. Splits, in the order of time:

- `train`: the distilled rows, soft labels in `{target}`
- `valid`, `test`: two halves of the log's held-out tail, observed labels; rank on the first
{full}
Ids are whole numbers from 2; 0 is padding, 1 an unknown value. `vocabulary/` says which value an id
stands for. Numeric fields are standardised.

## How to train on it

Epochs: {recipe.epochs}. Order: {recipe.order}. Mini-batches of {recipe.batch_share:.4g} times the
size that you would take on the full log; learning rate and weight decay {pace:.3g} times as large.
Where the library lets you set them: Adam's 1 − β {recipe.steps_per_step:.3g} times as large (β at
least 0), its ε divided by {pace:.3g}. No early stopping: `valid` has to judge.

{usage}
## What this format loses

{lost}
"""
