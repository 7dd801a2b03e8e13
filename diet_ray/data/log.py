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

import pyarrow as pa
import pyarrow.parquet as pq

from diet_ray.config import from_mapping, to_mapping
from diet_ray.data.batch import Batch, FeatureSpec, concatenate
from diet_ray.data.encoding import Scale, features_of, to_batch
from diet_ray.data.schema import Schema
from diet_ray.data.stages import Role, StageConfig
from diet_ray.errors import ConfigError, DataError
from diet_ray.storage import Folder

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

    @classmethod
    def open(cls, path: str) -> PreparedLog:
        """Raises `DataError` if there is no whole log in the folder."""
        folder = Folder.at(path)
        where = f"{folder}/{MANIFEST}"
        try:
            content = json.loads(folder.read(MANIFEST))
            version = content.pop("format_version")
        except FileNotFoundError:
            raise DataError(f"{where}: no such file: prepare the log first") from None
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as e:
            raise DataError(f"{where}: can't be read: {e}") from None
        if version != FORMAT_VERSION:
            raise DataError(f"{where}: format {version}, this program reads {FORMAT_VERSION}")
        try:
            return from_mapping(cls, content | {"path": str(path)}, where)
        except ConfigError as e:
            raise DataError(f"{e}; prepare the log again") from None

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
        try:
            with folder.filesystem.open_input_file(folder.path_of(shard.file)) as file:
                table = pq.ParquetFile(file).read_row_groups(
                    groups, columns=None if columns is None else list(columns), use_threads=False
                )
        except (OSError, pa.ArrowException) as e:
            reason = " ".join(str(e).split())
            raise DataError(f"{where}: can't be read: {reason}; prepare the log again") from None
        if table.num_rows != shard.num_rows:
            raise DataError(
                f"{where}: {table.num_rows} rows where {MANIFEST} says {shard.num_rows}; "
                "prepare the log again"
            )
        return table.combine_chunks()

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
