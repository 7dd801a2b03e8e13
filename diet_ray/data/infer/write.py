"""A proposal as commented files: the schema, and a configuration that distils with it."""

from __future__ import annotations

import os
from pathlib import Path

from diet_ray.data.infer.proposal import propose
from diet_ray.data.infer.sample import in_time_order, take_sample
from diet_ray.data.raw.output import distill_text, schema_text
from diet_ray.errors import OutputError


def write_proposal(file: str, out: Path) -> tuple[Path, Path]:
    """Writes `schema.yaml` and `distill.yaml` into the folder `out`.

    Raises `DataError` if the file can't be understood, `OutputError` if one of the two is there.
    """
    paths = (out / "schema.yaml", out / "distill.yaml")
    for path in paths:
        if path.exists():
            raise OutputError(f"{path}: exists already; choose another folder or remove it")
    sample = take_sample(file)
    found = propose(sample)
    is_sorted = in_time_order(sample, found.schema.timestamp.column)
    rows = sample.rows.num_rows
    how_many = f"all {rows:,}" if sample.is_whole else f"the first {rows:,}"
    comment = [
        f"Proposed for {Path(file).name} from {how_many} rows: check every line.",
        "A field must be known before the event that the label is about.",
        *(f"Left out: {name}: {why}" for name, why in found.left_out.items()),
    ]
    out.mkdir(parents=True, exist_ok=True)
    paths[0].write_text(schema_text(found.schema, comment, found.remarks), encoding="utf-8")
    source_path = file if "://" in file else os.path.relpath(Path(file).absolute(), out.absolute())
    format_name = "parquet" if sample.delimiter is None else "csv"
    source = [f"format: {format_name}"]
    if sample.delimiter not in (None, ","):
        quoted = sample.delimiter.replace("\t", "\\t") if sample.delimiter else ""
        source.append(f'delimiter: "{quoted}"')
    text = distill_text(
        paths=[source_path],
        by="day",
        rows=0,
        test_fraction="0.1",
        sort=not is_sorted,
        source=source,
    )
    paths[1].write_text(text, encoding="utf-8")
    return paths
