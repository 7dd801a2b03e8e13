"""Prepared logs without Ray: one encoded from the synthetic generator, one of random ids.

Each is written once into a folder and found there again.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.scoring.features import CLICK_SHARE, NAMES, NUM_IDS, random_ids
from diet_ray.data.encoding import NUM_STRATA, ROW, STRATUM, Encoder, encoded_schema
from diet_ray.data.log import MANIFEST, PreparedLog, Shard, Stage
from diet_ray.data.log_writer import StageWriter, initial_fingerprint
from diet_ray.data.rows import LABEL, TIMESTAMP
from diet_ray.data.schema import Field, Label, Schema, Timestamp
from diet_ray.data.sources.synthetic import SyntheticConfig, SyntheticSource
from diet_ray.data.stages import StageConfig, cut
from diet_ray.storage import Folder

NUM_STAGES = 30
SHARD_ROWS = 65_536
DAY_US = 86_400_000_000
SYNTHETIC_SCHEMA = Path(__file__).parents[2] / "examples" / "synthetic" / "schema.yaml"


def write_synthetic_log(num_rows: int, path: Path) -> PreparedLog:
    """The generator's log with its vocabularies and histories, every row for training."""
    if (path / MANIFEST).exists():
        return PreparedLog.open(str(path))
    folder = _empty(path)
    schema, config = Schema.load(SYNTHETIC_SCHEMA), StageConfig(test_fraction=0.0)
    source = SyntheticSource.open(SyntheticConfig(num_rows=num_rows), schema)
    encoder = Encoder(schema)
    writer = StageWriter(folder, encoder, path, fingerprint=initial_fingerprint(schema, config))
    tables = (table for shard in source.shards for table in source.read(shard))
    timezone = schema.timestamp.timezone
    stages = tuple(writer.write(cut(tables, config, timezone=timezone, num_train_rows=None)))
    return _commit(path, schema, config, stages, encoder)


def write_random_log(
    num_rows: int, path: Path, *, num_stages: int = NUM_STAGES, shard_rows: int = SHARD_ROWS
) -> PreparedLog:
    """Rows of `benchmarks.scoring.features` without a history, drawn independently."""
    if (path / MANIFEST).exists():
        return PreparedLog.open(str(path))
    folder = _empty(path)
    schema = Schema(
        timestamp=Timestamp(column="time", unit="us"),
        label=Label(column="click"),
        fields=tuple(Field(name=name, kind="categorical") for name in NAMES),
    )
    config = StageConfig(test_fraction=0.0, shard_rows=shard_rows)
    stages: list[Stage] = []
    next_shard = 0
    for index in range(num_stages):
        first_row, end_row = (i * num_rows // num_stages for i in (index, index + 1))
        stage = _write_random_stage(folder, schema, index, first_row, end_row, next_shard, config)
        next_shard += len(stage.shards)
        stages.append(stage)
    return _commit(path, schema, config, tuple(stages), Encoder(schema))


def regrouped(log: PreparedLog, num_row_groups: int) -> PreparedLog:
    """The same rows in shards of several row groups each; a log of one row group a shard."""
    stages: list[Stage] = []
    next_shard = 0
    for stage in log.stages:
        shards: list[Shard] = []
        for i in range(0, len(stage.shards), num_row_groups):
            group = stage.shards[i : i + num_row_groups]
            shards.append(
                Shard(
                    index=next_shard + len(shards),
                    stage=stage.index,
                    file=group[0].file,
                    first_row_group=group[0].first_row_group,
                    num_row_groups=len(group),
                    num_rows=sum(s.num_rows for s in group),
                    first_row=group[0].first_row,
                )
            )
        next_shard += len(shards)
        stages.append(replace(stage, shards=tuple(shards)))
    return replace(log, stages=tuple(stages))


def _empty(path: Path) -> Folder:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return Folder.at(path)


def _commit(
    path: Path,
    schema: Schema,
    config: StageConfig,
    stages: tuple[Stage, ...],
    encoder: Encoder,
) -> PreparedLog:
    log = PreparedLog(
        path=str(path),
        schema=schema,
        stage_config=config,
        stages=stages,
        fingerprint=stages[-1].fingerprint,
        num_strata=NUM_STRATA,
        scales=encoder.scales,
        generation=0,
    )
    Folder.at(path).write(MANIFEST, log.to_json())
    return log


def _write_random_stage(
    folder: Folder,
    schema: Schema,
    index: int,
    first_row: int,
    end_row: int,
    first_shard: int,
    config: StageConfig,
) -> Stage:
    name = f"stages/{index:05d}-000.parquet"
    path = Path(folder.path_of(name))
    path.parent.mkdir(exist_ok=True)
    columns = encoded_schema(schema)
    strata = np.zeros(NUM_STRATA, dtype=np.int64)
    shards: list[Shard] = []
    with pq.ParquetWriter(
        path,
        columns,
        compression="lz4",
        use_dictionary=[f.name for f in columns if f.type == pa.int32() or f.name == LABEL],
        write_statistics=False,
    ) as writer:
        for start in range(first_row, end_row, config.shard_rows):
            rows = _random_rows(columns, start, min(config.shard_rows, end_row - start))
            writer.write_table(rows, row_group_size=len(rows))
            strata += np.bincount(rows[STRATUM].to_numpy(), minlength=NUM_STRATA)
            shards.append(
                Shard(
                    index=first_shard + len(shards),
                    stage=index,
                    file=name,
                    first_row_group=len(shards),
                    num_row_groups=1,
                    num_rows=len(rows),
                    first_row=start,
                )
            )
    return Stage(
        index=index,
        role="train",
        num_rows=end_row - first_row,
        first_row=first_row,
        start_us=index * DAY_US,
        end_us=(index + 1) * DAY_US - 1,
        shards=tuple(shards),
        strata=tuple(int(n) for n in strata),
        num_ids=dict(zip(NAMES, NUM_IDS, strict=True)),
        fingerprint=f"random rows up to {end_row}",
    )


def _random_rows(columns: pa.Schema, first_row: int, num_rows: int) -> pa.Table:
    rng = np.random.default_rng([0, first_row])
    row = np.arange(first_row, first_row + num_rows)
    label = rng.random(num_rows) < CLICK_SHARE
    arrays: dict[str, np.ndarray] = {
        ROW: row,
        TIMESTAMP: row * 1_000,
        LABEL: label.astype(np.float32),
        STRATUM: (label + 2 * rng.integers(0, NUM_STRATA // 2, num_rows)).astype(np.int32),
    }
    for name, num_ids in zip(NAMES, NUM_IDS, strict=True):
        arrays[name] = random_ids(rng, num_ids, (num_rows,))
    return pa.table([arrays[name] for name in columns.names], schema=columns)
