"""From a source's configuration to its reader."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from diet_ray.data.schema import Schema
from diet_ray.data.sources import csv, kuairand, parquet, synthetic
from diet_ray.data.sources.base import Source
from diet_ray.data.sources.config import SourceConfig
from diet_ray.errors import ConfigError


def open_source(config: SourceConfig, schema: Schema, scratch: Path) -> Source:
    """The reader for a source; `scratch` is a folder for temporary files that it may need.

    Raises `DataError` naming the first file that can't be used, `ConfigError` if no format fits.
    """
    match config.format or infer_format(config):
        case "parquet":
            return parquet.ParquetSource.open(config, schema)
        case "csv":
            return csv.CsvSource.open(config, schema)
        case "kuairand":
            return kuairand.KuaiRandSource.open(config, schema, scratch)
        case "synthetic":
            return synthetic.SyntheticSource.open(config.synthetic, schema)


def infer_format(config: SourceConfig) -> Literal["parquet", "csv", "kuairand", "synthetic"]:
    """The format that the paths' names speak for. Raises `ConfigError` if none does."""
    if config.synthetic is not None:
        return "synthetic"
    files = parquet.expand(config.paths, parquet.SUFFIXES + csv.SUFFIXES)
    names = [file.rsplit("/", 1)[-1].lower() for file in files]
    if any(kuairand.is_log(name) for name in names):
        return "kuairand"
    if all(name.endswith(parquet.SUFFIXES) for name in names):
        return "parquet"
    if all(name.endswith(csv.SUFFIXES) for name in names):
        return "csv"
    raise ConfigError(
        f"{config.paths[0]}: can't tell the format from the file names; set `format` to parquet, "
        "csv or kuairand"
    )
