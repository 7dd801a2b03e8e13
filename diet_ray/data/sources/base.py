"""What every source offers: a list of shards, and a pure function that reads one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class RawShard:
    """A run of rows of one file, small enough to be read by one task."""

    file: str
    first_row: int
    """Rows of the file that lie before the shard."""
    num_rows: int
    first_row_group: int = 0
    num_row_groups: int = 0
    """Parquet only."""


class Source(Protocol):
    """A log before encoding. Plain data, so that it can be sent to workers."""

    @property
    def shards(self) -> tuple[RawShard, ...]:
        """In the order in which their rows are to be read."""

    @property
    def sort(self) -> bool:
        """Whether the rows must be sorted by time after reading."""

    def read(self, shard: RawShard) -> Iterator[pa.Table]:
        """The shard's rows in order, as `diet_ray.data.rows.normalise` returns them.

        Raises `DataError` naming file, column and row.
        """


def read_serially(source: Source) -> Iterator[pa.Table]:
    """All rows of a source, shard by shard, in this process."""
    for shard in source.shards:
        yield from source.read(shard)
