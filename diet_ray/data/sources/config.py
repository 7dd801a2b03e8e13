"""Where a log comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diet_ray.data.sources.synthetic import SyntheticConfig


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Files of one format, or a synthetic log.

    `paths` are files, folders or globs, on this machine or on any filesystem that pyarrow knows
    (`s3://bucket/log/*.parquet`). Files named one by one are read in that order, those of a folder
    or glob in the natural order of their names (`day-2` before `day-10`).
    """

    format: Literal["parquet", "csv", "kuairand", "synthetic"] | None = None
    """Found from the files' names when left out."""
    paths: tuple[str, ...] = ()
    sort: bool = False
    """Sort the rows by time first; rows of equal time keep their order. Costs one more pass over
    local temporary files. KuaiRand's raw files are always sorted."""
    delimiter: str = ","
    """CSV: what stands between columns."""
    column_names: tuple[str, ...] = ()
    """CSV: names of the columns of files without a header line."""
    synthetic: SyntheticConfig | None = None
    """Settings of the generator, for `format: synthetic`."""

    def __post_init__(self) -> None:
        if self.synthetic is not None and self.format not in (None, "synthetic"):
            raise ValueError(f"`synthetic` settings don't go with format {self.format}")
        if self.format == "synthetic" or self.synthetic is not None:
            if self.paths:
                raise ValueError("a synthetic log has no paths: leave one of the two out")
        elif not self.paths:
            raise ValueError("paths: name at least one file, folder or glob")
        if len(self.delimiter) != 1:
            raise ValueError(f"delimiter must be one character, found {self.delimiter!r}")
