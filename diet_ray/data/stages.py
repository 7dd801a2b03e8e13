"""Cutting a stream of rows into stages, and stages into shards, whatever blocks they come in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from diet_ray.data.rows import TIMESTAMP

Role = Literal["train", "test"]


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    by: Literal["day", "rows"] = "day"
    rows: int | None = None
    """Rows of a stage; with `by: day` an upper bound, at which a longer day is cut."""
    test_fraction: float = 0.1
    """Share of the rows, the last ones by time, that nothing may learn from."""
    shard_rows: int = 65_536
    """Rows of a shard; the last shard of a stage may be shorter."""

    def __post_init__(self) -> None:
        if self.by == "rows" and self.rows is None:
            raise ValueError("`by: rows` needs `rows`, the number of rows of a stage")
        if self.rows is not None and self.rows < 1:
            raise ValueError(f"rows must be at least 1, found {self.rows}")
        if not 0.0 <= self.test_fraction < 1.0:
            raise ValueError(f"test_fraction must lie in [0, 1), found {self.test_fraction}")
        if self.shard_rows < 1:
            raise ValueError(f"shard_rows must be at least 1, found {self.shard_rows}")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """The rows of one shard."""

    rows: pa.Table
    stage: int
    role: Role
    last: bool
    """Whether it ends its stage."""


def cut(
    tables: Iterable[pa.Table],
    config: StageConfig,
    *,
    timezone: str,
    num_train_rows: int | None,
    first_stage: int = 0,
) -> Iterator[Piece]:
    """Shards of consecutive stages from rows in time order.

    The stage in which row `num_train_rows` lies is cut there; that row and all later ones are test.
    None: every row is train. Rows, stages and shards don't depend on how `tables` are cut.
    """
    zone = ZoneInfo(timezone)
    pending: list[pa.Table] = []
    pending_rows = position = stage_rows = 0
    stage = first_stage - 1
    role: Role = "train"
    day_end_us = 0

    def piece(last: bool) -> Piece:
        nonlocal pending, pending_rows
        rows = pa.concat_tables(pending).combine_chunks()
        pending, pending_rows = [], 0
        return Piece(rows=rows, stage=stage, role=role, last=last)

    for table in tables:
        timestamps = table[TIMESTAMP].to_numpy()
        start = 0
        while start < len(timestamps):
            is_new = stage_rows == 0 or stage_rows == config.rows or position == num_train_rows
            if is_new or timestamps[start] >= day_end_us:
                if pending:
                    yield piece(last=True)
                stage, stage_rows = stage + 1, 0
                is_test = num_train_rows is not None and position >= num_train_rows
                role = "test" if is_test else "train"
                day_end_us = np.iinfo(np.int64).max
                if config.by == "day":
                    day_end_us = end_of_day_us(int(timestamps[start]), zone)
            elif pending_rows == config.shard_rows:
                yield piece(last=False)
            take = min(len(timestamps) - start, config.shard_rows - pending_rows)
            if config.rows is not None:
                take = min(take, config.rows - stage_rows)
            if num_train_rows is not None and role == "train":
                take = min(take, num_train_rows - position)
            take = int(np.searchsorted(timestamps[start : start + take], day_end_us))
            pending.append(table.slice(start, take))
            start += take
            pending_rows += take
            stage_rows += take
            position += take
    if pending:
        yield piece(last=True)


def end_of_day_us(timestamp_us: int, zone: ZoneInfo) -> int:
    """The first microsecond after the local day in which `timestamp_us` lies."""
    day = datetime.fromtimestamp(timestamp_us // 1_000_000, zone).date()
    midnight = datetime.combine(day + timedelta(days=1), time(), tzinfo=zone)
    end_us = int(midnight.timestamp()) * 1_000_000
    if end_us <= timestamp_us:
        # Where clocks go back over midnight there are two, and a row lies between them.
        end_us = int(midnight.replace(fold=1).timestamp()) * 1_000_000
    return end_us
