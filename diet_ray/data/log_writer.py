"""Writing encoded stages: rows of a stage wait on disk until it ends, then become shards.

What a stage admits decides how its rows are encoded, so they are kept as small coded rows, in a
temporary file, until its last one is read. Memory therefore doesn't depend on how long a stage is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diet_ray.config import to_mapping
from diet_ray.data.encoding import NUM_STRATA, STRATUM, Encoder, encoded_schema
from diet_ray.data.log import Shard, Stage
from diet_ray.data.rows import LABEL, TIMESTAMP
from diet_ray.data.schema import Schema
from diet_ray.data.stages import Piece, Role, StageConfig
from diet_ray.storage import Folder

SHARDS_PER_FILE = 64
"""Bounds a file's footer, which every reader of one of its shards parses."""


class StageWriter:
    """Encodes pieces in order and writes the shards of one stage after another."""

    def __init__(
        self,
        folder: Folder,
        encoder: Encoder,
        scratch: Path,
        *,
        fingerprint: str,
        first_row: int = 0,
        first_shard: int = 0,
    ) -> None:
        """`fingerprint`, `first_row`, `first_shard`: where an earlier log ended."""
        self._folder = folder
        self._encoder = encoder
        self._spill_path = scratch / "stage.arrow"
        self._schema = encoded_schema(encoder.schema)
        self._fingerprint = fingerprint
        self._next_row = first_row
        self._next_shard = first_shard

    def write(
        self, pieces: Iterable[Piece], on_rows: Callable[[int], None] | None = None
    ) -> Iterator[Stage]:
        """Stages, each when its rows are written; `on_rows` is told of rows as they are."""
        spill: pa.RecordBatchFileWriter | None = None
        try:
            for piece in pieces:
                coded = self._encoder.code(piece.rows, learn=piece.role == "train")
                if spill is None:
                    spill = pa.ipc.new_file(str(self._spill_path), coded.schema)
                spill.write_batch(coded)
                if piece.last:
                    spill.close()
                    spill = None
                    yield self._finish(piece.stage, piece.role, on_rows)
        finally:
            if spill is not None:
                spill.close()
            self._spill_path.unlink(missing_ok=True)

    def _finish(self, index: int, role: Role, on_rows: Callable[[int], None] | None) -> Stage:
        encoder = self._encoder
        encoder.end_stage(learn=role == "train")
        strata = np.zeros(NUM_STRATA, dtype=np.int64)
        digest = hashlib.sha256(f"{self._fingerprint}/{role}".encode())
        first_row = self._next_row
        shards: list[Shard] = []
        with (
            pa.OSFile(str(self._spill_path)) as file,
            _ShardFiles(self._folder, self._schema, index) as files,
        ):
            coded = pa.ipc.open_file(file)
            num_batches = coded.num_record_batches
            stage_rows = sum(coded.get_batch(i).num_rows for i in range(num_batches))
            start_us = end_us = 0
            for i in range(num_batches):
                rows = encoder.encode(
                    coded.get_batch(i),
                    first_row=self._next_row,
                    stage_offset=self._next_row - first_row,
                    stage_rows=stage_rows,
                )
                file_name, row_group = files.write(rows)
                shards.append(
                    Shard(
                        index=self._next_shard,
                        stage=index,
                        file=file_name,
                        first_row_group=row_group,
                        num_row_groups=1,
                        num_rows=rows.num_rows,
                        first_row=self._next_row,
                    )
                )
                strata += np.bincount(rows[STRATUM].to_numpy(), minlength=NUM_STRATA)
                _update(digest, rows, encoder.schema)
                timestamps = rows[TIMESTAMP].to_numpy()
                start_us = start_us if i else int(timestamps[0])
                end_us = int(timestamps[-1])
                self._next_row += rows.num_rows
                self._next_shard += 1
                if on_rows is not None:
                    on_rows(rows.num_rows)
        self._fingerprint = digest.hexdigest()
        return Stage(
            index=index,
            role=role,
            num_rows=stage_rows,
            first_row=first_row,
            start_us=start_us,
            end_us=end_us,
            shards=tuple(shards),
            strata=tuple(int(n) for n in strata),
            num_ids=encoder.num_ids,
            fingerprint=self._fingerprint,
        )


def initial_fingerprint(schema: Schema, config: StageConfig) -> str:
    """What every log of this schema and these stages begins with."""
    cut = (config.by, config.rows, config.shard_rows)
    return hashlib.sha256(f"{to_mapping(schema)!r}{cut}".encode()).hexdigest()


class _ShardFiles:
    """Parquet files of one stage; a thread writes one shard while the next is encoded."""

    def __init__(self, folder: Folder, schema: pa.Schema, stage: int) -> None:
        self._folder = folder
        self._schema = schema
        self._stage = stage
        self._num_shards = 0
        self._writer: pq.ParquetWriter | None = None
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None
        # Ids repeat within a shard; in a history they repeat too, but cost more to look up.
        self._dictionary = [f.name for f in schema if f.type == pa.int32() or f.name == LABEL]

    def write(self, rows: pa.Table) -> tuple[str, int]:
        """Hands a shard over; returns its file and row group."""
        part, row_group = divmod(self._num_shards, SHARDS_PER_FILE)
        name = f"stages/{self._stage:05d}-{part:03d}.parquet"
        self._wait()
        self._pending = self._thread.submit(self._write, name, row_group == 0, rows)
        self._num_shards += 1
        return name, row_group

    def _write(self, name: str, is_first: bool, rows: pa.Table) -> None:
        if is_first:
            self._close()
            path = self._folder.path_of(name)
            self._folder.filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            self._writer = pq.ParquetWriter(
                path,
                self._schema,
                filesystem=self._folder.filesystem,
                compression="lz4",
                use_dictionary=self._dictionary,
                write_statistics=False,
                write_page_checksum=True,
            )
        assert self._writer is not None
        self._writer.write_table(rows, row_group_size=rows.num_rows)

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> _ShardFiles:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._wait()
        finally:
            self._thread.shutdown()
            self._close()


def _update(digest: hashlib._Hash, rows: pa.Table, schema: Schema) -> None:
    # Histories follow from the other columns.
    derived = {f.name for f in schema.fields if f.history_of is not None}
    for name in rows.column_names:
        if name not in derived:
            for chunk in rows[name].chunks:
                values = chunk.flatten() if pa.types.is_nested(chunk.type) else chunk
                digest.update(values.to_numpy())
