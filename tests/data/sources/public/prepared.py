"""Preparing small raw files in this process, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from diet_ray.data.log import PreparedLog
from diet_ray.data.prepare import prepare as encode_log
from diet_ray.data.raw.convert import Converted, convert
from diet_ray.data.raw.log import Options
from diet_ray.data.raw.tasks import InProcess
from diet_ray.data.schema import Schema
from diet_ray.data.sources.public import known
from diet_ray.distillation.config import load_distill_config


@dataclass(frozen=True)
class Prepared:
    out: Path
    made: Converted
    remarks: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.table.to_pylist()

    @property
    def table(self) -> pa.Table:
        return pa.concat_tables(
            [pq.read_table(self.out / "log" / name) for name in self.made.files],
            promote_options="default",
        )

    def column(self, name: str) -> list[Any]:
        return self.table[name].to_pylist()

    @property
    def schema(self) -> Schema:
        return Schema.load(self.out / "schema.yaml")


def prepared(raw: Path, out: Path, source: str = "auto", **options: Any) -> Prepared:
    """As `diet prepare SOURCE RAW OUT`."""
    starts = known.starts_of(str(raw))
    adapter = known.recognise(starts) if source == "auto" else known.adapter(source)
    files, remarks = known.sort_files(adapter, starts)
    notes: list[str] = []

    def opened(scratch: Path) -> Any:
        log = adapter.open(files, Options(**options), scratch)
        notes.extend(log.notes)
        return log

    made = convert(opened, InProcess(), out, about=adapter.about)
    return Prepared(out, made, remarks, tuple(notes))


def encoded(log: Prepared, folder: Path) -> PreparedLog:
    """The log as the first step of `diet distill` encodes it. Needs Ray."""
    config = load_distill_config(log.out / "distill.yaml")
    return encode_log(config.source, log.schema, config.stages, folder)


def write(path: Path, *lines: str, encoding: str = "utf8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding=encoding)
    return path
