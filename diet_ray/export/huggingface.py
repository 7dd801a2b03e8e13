"""Hugging Face datasets: Parquet with a card, as `datasets.load_dataset(OUT)` reads it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import yaml

from diet_ray.export.files import copy_vocabularies, explanation, new_folder, write_parquet
from diet_ray.export.rows import TARGET, WEIGHT, ExportRows, field_columns
from diet_ray.search.runs import TrainingRows

LOSSES = ("nothing of the rows; the training loop, with the recipe's drift factors, is yours",)


def export(rows: ExportRows, out: Path) -> None:
    """Raises `OutputError` if the folder isn't empty."""
    new_folder(out)
    (out / "data").mkdir()
    files = []
    for split, parts in rows.splits():
        path = f"data/{split}.parquet"
        write_parquet(out / path, (_table(p, rows) for p in parts))
        files.append({"split": "validation" if split == "valid" else split, "path": path})
    copy_vocabularies(rows, out)
    card = yaml.safe_dump(
        {"configs": [{"config_name": "default", "data_files": files}]}, sort_keys=False
    )
    usage = (
        f"`{rows.label}` is the observed label, `{TARGET}` what to train on (a probability plus a "
        f"share of\nthe residual, so it may lie outside [0, 1]), `{WEIGHT}` the rows of the log "
        "that a row stands for.\n`valid` is called `validation`.\n"
    )
    text = explanation(rows, "Hugging Face datasets", target=TARGET, losses=LOSSES, usage=usage)
    (out / "README.md").write_text(f"---\n{card}---\n\n{text}", encoding="utf-8")


def _table(part: TrainingRows, rows: ExportRows) -> pa.Table:
    table = field_columns(part.batch, rows.features)
    table = table.append_column(rows.label, pa.array(part.batch.label.numpy()))
    table = table.append_column(TARGET, pa.array(part.target.numpy()))
    return table.append_column(WEIGHT, pa.array(part.weight.numpy()))
