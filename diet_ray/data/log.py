"""A prepared log: encoded rows by stage, as files that any process can read a shard of.

    LOG/log.json                    the manifest, written last
    LOG/stages/00003-000.parquet    a stage's encoded rows; a row group is a shard
    LOG/vocabulary/<field>.parquet  columns value, id (1: not admitted yet), count
    LOG/state-0/                    what the next append starts from: vocabularies and histories

Vocabularies only ever grow, so the files fit every manifest that was written before them.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_ray.config import from_mapping, to_mapping
from diet_ray.data.batch import Batch, FeatureSpec, concatenate
from diet_ray.data.encoding import ROW, Scale, encoded_schema, features_of, to_batch
from diet_ray.data.rows import LABEL
from diet_ray.data.schema import Schema
from diet_ray.data.stages import Role, StageConfig
from diet_ray.documents import parse_json, shown
from diet_ray.errors import ConfigError, DataError
from diet_ray.parquet import decoding, open_parquet
from diet_ray.storage import Folder, absolute

MANIFEST = "log.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Shard:
    index: int
    stage: int
    file: str
    """Relative to the log."""
    first_row_group: int
    num_row_groups: int
    num_rows: int
    first_row: int
    """Of the whole log."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    index: int
    role: Role
    num_rows: int
    first_row: int
    start_us: int
    end_us: int
    """Timestamps of the first and last row."""
    shards: tuple[Shard, ...]
    strata: tuple[int, ...]
    """Rows by stratum."""
    num_ids: dict[str, int]
    """Ids of each vocabulary, reserved ones included, once this stage is read."""
    fingerprint: str = ""
    """Digest of the schema and of all encoded rows up to the stage's last."""


@dataclass(frozen=True, kw_only=True)
class PreparedLog:
    path: str
    """Made absolute: a log is read by processes that run in other folders, too."""
    schema: Schema
    stage_config: StageConfig
    stages: tuple[Stage, ...]
    fingerprint: str
    """Of the last stage: two logs with the same one hold the same rows."""
    num_strata: int
    scales: dict[str, Scale]
    """Of the numeric fields."""
    generation: int
    """How often rows were appended."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", absolute(self.path))

    @classmethod
    def open(cls, path: str) -> PreparedLog:
        """Raises `DataError` if there is no whole log in the folder."""
        folder = Folder.at(path)
        where = f"{folder}/{MANIFEST}"
        try:
            content = parse_json(folder.read(MANIFEST), where, DataError)
        except FileNotFoundError:
            raise DataError(f"{where}: no such file: prepare the log first") from None
        except OSError as e:
            raise DataError(f"{where}: can't be read: {e}") from None
        version = content.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise DataError(
                f"{where}: format {shown(version)}, this program reads {FORMAT_VERSION}"
            )
        try:
            log = from_mapping(cls, content | {"path": str(path)}, where)
            _check_stages(log)
        except (ConfigError, ValueError) as e:
            prefix = "" if isinstance(e, ConfigError) else f"{where}: "
            raise DataError(f"{prefix}{e}; prepare the log again") from None
        return log

    def to_json(self) -> bytes:
        """The manifest's content."""
        content = to_mapping(self)
        del content["path"]
        return json.dumps({"format_version": FORMAT_VERSION} | content, indent=1).encode()

    @property
    def train_stages(self) -> tuple[Stage, ...]:
        return tuple(s for s in self.stages if s.role == "train")

    @property
    def test_stages(self) -> tuple[Stage, ...]:
        return tuple(s for s in self.stages if s.role == "test")

    @property
    def num_train_rows(self) -> int:
        return sum(s.num_rows for s in self.train_stages)

    @property
    def num_train_bytes(self) -> int:
        """Of the files that hold the training rows."""
        folder = Folder.at(self.path)
        files = {shard.file for stage in self.train_stages for shard in stage.shards}
        return sum(folder.size(file) for file in files)

    @property
    def num_test_rows(self) -> int:
        return sum(s.num_rows for s in self.test_stages)

    @property
    def features(self) -> FeatureSpec:
        """After the last train stage."""
        return self.features_at(self.train_stages[-1].index)

    def features_at(self, stage_index: int) -> FeatureSpec:
        """What a model must know to read a stage, the ids that it admits included."""
        num_ids = next(s.num_ids for s in self.stages if s.index == stage_index)
        return features_of(self.schema, num_ids)

    def read_shard(self, shard: Shard, columns: Sequence[str] | None = None) -> pa.Table:
        """A shard's encoded rows. Raises `DataError` naming it."""
        folder = Folder.at(self.path)
        groups = list(range(shard.first_row_group, shard.first_row_group + shard.num_row_groups))
        where = f"{folder}/{shard.file}, rows from {shard.first_row}"
        expected = encoded_schema(self.schema)
        if columns is not None:
            expected = pa.schema([expected.field(name) for name in columns])
        with decoding(where, DataError, "prepare the log again"):
            with folder.filesystem.open_input_file(folder.path_of(shard.file)) as source:
                file = open_parquet(source)
                num_rows = sum(file.metadata.row_group(g).num_rows for g in groups)
                if num_rows != shard.num_rows:
                    raise ValueError(f"{num_rows} rows where {MANIFEST} says {shard.num_rows}")
                table = file.read_row_groups(groups, columns=expected.names, use_threads=False)
            self._check_rows(table, expected, shard)
        return table.combine_chunks()

    def _check_rows(self, table: pa.Table, expected: pa.Schema, shard: Shard) -> None:
        """Raises ValueError for rows that no encoder wrote: an id of another field would be taken
        for one of its neighbour's, without a word."""
        table.validate(full=True)
        if table.num_rows != shard.num_rows:
            raise ValueError(f"{table.num_rows} rows where {MANIFEST} says {shard.num_rows}")
        if ROW in table.column_names:
            rows = table[ROW].to_numpy()
            if not np.array_equal(rows, np.arange(shard.first_row, shard.first_row + len(rows))):
                raise ValueError(f"its rows aren't those from {shard.first_row} on, in order")
        num_ids = self.stages[-1].num_ids
        limits = {f.name: num_ids.get(f.history_of or f.name) for f in self.schema.fields}
        for field in expected:
            column = table[field.name]
            items = pc.list_flatten(column) if pa.types.is_nested(column.type) else column
            if _plain(column.type) != _plain(field.type) or column.null_count or items.null_count:
                raise ValueError(f"column `{field.name}` is {column.type}, not {field.type}")
            if pa.types.is_floating(column.type) and not pc.all(pc.is_finite(column)).as_py():
                raise ValueError(f"column `{field.name}` must be finite")
            if field.name == LABEL and not np.isin(column.to_numpy(), (0.0, 1.0)).all():
                raise ValueError(f"column `{LABEL}` must be 0 or 1")
            limit = limits.get(field.name)
            if limit is not None and len(items):
                low, high = pc.min_max(items).values()
                if low.as_py() < 0 or high.as_py() >= limit:
                    raise ValueError(f"column `{field.name}`: ids must lie from 0 to {limit - 1}")

    def batches(self, stages: Sequence[Stage], device: str = "cpu") -> Iterator[Batch]:
        """The rows of stages, a shard at a time, in order; a thread reads the next one."""
        features = self.features
        shards = [shard for stage in stages for shard in stage.shards]
        ready: queue.Queue[Batch | BaseException | None] = queue.Queue(maxsize=1)
        stopped = threading.Event()

        def hand_over(item: Batch | BaseException | None) -> None:
            while not stopped.is_set():
                try:
                    ready.put(item, timeout=0.1)
                except queue.Full:
                    continue
                return

        def read() -> None:
            try:
                for shard in shards:
                    if stopped.is_set():
                        return
                    hand_over(to_batch(self.read_shard(shard), features))
                hand_over(None)
            except BaseException as e:
                hand_over(e)

        threading.Thread(target=read, daemon=True).start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item.to(device)
        finally:
            stopped.set()

    def load(self, stages: Sequence[Stage]) -> Batch:
        """All rows of stages in memory."""
        return concatenate(list(self.batches(stages)))


def _plain(kind: pa.DataType) -> pa.DataType:
    """The same type, without a say on whether the items of a list may be null."""
    return pa.list_(kind.value_type, kind.list_size) if pa.types.is_fixed_size_list(kind) else kind


def _check_stages(log: PreparedLog) -> None:
    """Raises ValueError if stages, shards and ids don't fit together and the schema."""
    if not log.train_stages:
        raise ValueError("stages: none to train on")
    vocabularies = {f.name for f in log.schema.fields if f.kind != "numeric" and not f.history_of}
    missing = {f.name for f in log.schema.of_kind("numeric")} - log.scales.keys()
    if missing:
        raise ValueError(f"scales: none for `{min(missing)}`")
    next_row = next_shard = 0
    for stage in log.stages:
        where = f"stage {stage.index}"
        features_of(log.schema, {n: stage.num_ids.get(n, 0) for n in vocabularies})
        if not stage.shards or stage.first_row != next_row or sum(stage.strata) != stage.num_rows:
            raise ValueError(f"{where}: its rows don't follow those of the stage before")
        if len(stage.strata) != log.num_strata or min(stage.strata) < 0:
            raise ValueError(f"{where}: strata must be {log.num_strata} counts")
        for shard in stage.shards:
            places = (shard.first_row_group, shard.num_row_groups, shard.num_rows)
            if shard.index != next_shard or shard.first_row != next_row or min(places) < 0:
                raise ValueError(f"{where}: shard {shard.index} is out of order")
            if shard.stage != stage.index or not 1 <= shard.num_row_groups <= shard.num_rows:
                raise ValueError(f"{where}: shard {shard.index} is of another stage, or empty")
            next_row, next_shard = next_row + shard.num_rows, next_shard + 1
        if next_row != stage.first_row + stage.num_rows:
            raise ValueError(f"{where}: its shards don't hold {stage.num_rows} rows")
