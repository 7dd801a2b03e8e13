"""Readers of prepared logs, and of the state that the next day's rows are added to."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import torch

from diet_ray.data.encoding import to_batch
from diet_ray.data.log import PreparedLog
from diet_ray.data.prepare import append, prepare
from diet_ray.data.sources.base import read_serially
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.stages import StageConfig
from tests.data.click_log import SCHEMA, click_rows, write_log
from tests.fuzz import arrow_values
from tests.fuzz.reader import CHANGED, Reader


def _serial() -> Any:
    return mock.patch("diet_ray.data.prepare.read_in_order", read_serially)


def _make_log(folder: Path) -> None:
    paths = write_log(folder / "raw", click_rows(240, days=3))
    stages = StageConfig(shard_rows=50)
    with _serial():
        prepare(SourceConfig(paths=paths), SCHEMA, stages, folder / "log")
    for path in (folder / "raw").iterdir():
        path.unlink()
    (folder / "raw").rmdir()


@functools.cache
def _shards(path: str) -> dict[int, pa.Table]:
    log = PreparedLog.open(path)
    return {s.index: log.read_shard(s) for stage in log.stages for s in stage.shards}


def _read_log(folder: Path, real: Path) -> None:
    log = PreparedLog.open(str(folder / "log"))
    manifest = (folder / "log" / "log.json").read_bytes()
    same = manifest == (real / "log" / "log.json").read_bytes()
    same = same and not (folder / CHANGED).exists()
    features = log.features
    for stage in log.stages:
        for shard in stage.shards:
            table = log.read_shard(shard)
            if same:
                assert table.equals(_shards(str(real / "log"))[shard.index])
            batch = to_batch(table, features)
            assert bool(torch.isfinite(batch.numeric).all())
            for i, num_ids in enumerate(features.num_ids):
                assert int(batch.categorical[:, i].max()) < max(
                    num_ids, max(log.stages[-1].num_ids.values())
                )


def _read_update(folder: Path, _: Path) -> None:
    later = click_rows(60, days=1, seed=1)
    time = pa.array(later["time"].to_numpy() + 30 * 86_400)
    later = later.set_column(0, "time", time)
    paths = write_log(folder / "new", later)
    with _serial():
        log = append(PreparedLog.open(str(folder / "log")), SourceConfig(paths=paths))
    for stage in log.stages[-1:]:
        for shard in stage.shards:
            log.read_shard(shard)


READERS = (
    Reader(name="log", make=_make_log, read=_read_log, weight=8,
           changes=arrow_values.change_parquet),
    Reader(name="update", make=_make_log, read=_read_update, weight=2,
           changes=arrow_values.change_parquet),
)  # fmt: skip
