"""KuaiRand's raw CSV files (Gao et al., CIKM 2022): log rows joined with user and video features.

Recognised by name, in all three editions (`_pure`, `_1k`, `_27k`, the last in `_part` files):

    log_standard_*.csv           the events; rows come grouped by user and are sorted by time here
    log_random_*.csv             read only if a path names the files themselves
    user_features_*.csv          joined by user_id
    video_features_basic_*.csv   joined by video_id; `tag` becomes a list

`video_features_statistic_*.csv` is never read: its averages over the whole month, test days
included, would tell the future.
"""

from __future__ import annotations

import functools
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_ray.data.rows import normalise
from diet_ray.data.schema import Schema
from diet_ray.data.sources.base import RawShard
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.sources.csv import CsvFormat, whole_file
from diet_ray.data.sources.files import expand
from diet_ray.errors import DataError

_LOG = re.compile(r"log_(standard|random)_.*\.csv")
_USERS = re.compile(r"user_features_.*\.csv")
_VIDEOS = re.compile(r"video_features_basic_.*\.csv")
_FORMAT = CsvFormat()


def is_log(name: str) -> bool:
    """Whether a file's name is that of KuaiRand's event files."""
    return _LOG.fullmatch(name) is not None


@dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """Features by id, as an Arrow file that processes map into memory and so share."""

    key: str
    path: str
    columns: tuple[str, ...]

    def look_up(self, ids: pa.Array) -> dict[str, pa.Array]:
        """The columns' values for ids (int64); null where an id is missing or unknown."""
        table, keys = _mapped(self.path)
        wanted = pc.fill_null(ids, -1).to_numpy()
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        index = pa.array(place, mask=keys[place] != wanted)
        return {name: table[name].take(index).combine_chunks() for name in self.columns}


@dataclass(frozen=True, kw_only=True)
class KuaiRandSource:
    schema: Schema
    shards: tuple[RawShard, ...]
    features: tuple[FeatureTable, ...]
    sort: bool = True

    @classmethod
    def open(cls, config: SourceConfig, schema: Schema, scratch: Path) -> KuaiRandSource:
        """Finds the files and turns the feature files into tables in `scratch`.

        Raises `DataError` naming a file that is missing or lacks a column.
        """
        files = expand(config.paths, (".csv",))
        logs = [f for f in files if _is_wanted_log(f, config.paths)]
        if not logs:
            raise DataError(
                f"{config.paths[0]}: no log_standard_*.csv; give KuaiRand's `data` folder"
            )
        in_log = set(_FORMAT.header(logs[0]))
        others = [c for c in schema.columns if c not in in_log]
        features = []
        for key, pattern in (("user_id", _USERS), ("video_id", _VIDEOS)):
            sources = [f for f in files if pattern.fullmatch(_name(f))]
            if not sources or not others:
                continue
            found = _FORMAT.header(sources[0])
            columns = tuple(c for c in others if c in found and c != key)
            if columns:
                features.append(_feature_table(sources, key, columns, scratch))
                others = [c for c in others if c not in columns]
        # A column that nothing provides is looked for, and reported, in the log itself.
        columns = _log_columns(schema, tuple(features))
        shards = tuple(whole_file(_FORMAT, f, columns, schema) for f in logs)
        return cls(schema=schema, shards=shards, features=tuple(features))

    def read(self, shard: RawShard) -> Iterator[pa.Table]:
        row = 0
        for table in _FORMAT.stream(shard.file, list(_log_columns(self.schema, self.features))):
            for features in self.features:
                for name, values in features.look_up(_ids(table, features.key, shard)).items():
                    table = table.append_column(name, values)
            yield normalise(table, self.schema, file=shard.file, first_row=row, text=True)
            row += table.num_rows


def _log_columns(schema: Schema, features: tuple[FeatureTable, ...]) -> tuple[str, ...]:
    joined = {c for f in features for c in f.columns}
    own = [c for c in schema.columns if c not in joined]
    return tuple(dict.fromkeys(own + [f.key for f in features]))


def _is_wanted_log(file: str, paths: tuple[str, ...]) -> bool:
    match = _LOG.fullmatch(_name(file))
    if match is None:
        return False
    # Random exposure is another experiment: it joins the log only when it is asked for by name.
    return match[1] == "standard" or any("log_random" in p for p in paths)


def _name(file: str) -> str:
    return file.rsplit("/", 1)[-1].lower()


def _ids(table: pa.Table, column: str, shard: RawShard) -> pa.Array:
    try:
        return table[column].cast(pa.int64()).combine_chunks()
    except pa.ArrowInvalid as e:
        raise DataError(f"{shard.file}: column `{column}`: {e}; ids are whole numbers") from None


def _feature_table(
    files: list[str], key: str, columns: tuple[str, ...], scratch: Path
) -> FeatureTable:
    # A name of its own: processes that outlive this source keep what they have mapped by name.
    path = str(scratch / f"{key}-{uuid.uuid4().hex}.arrow")
    tables = []
    for file in files:
        shard = RawShard(file=file, first_row=0, num_rows=0)
        for table in _FORMAT.stream(file, [key, *columns]):
            arrays = {c: table[c] for c in columns}
            if "tag" in arrays:
                arrays["tag"] = pc.split_pattern(arrays["tag"], ",")
            tables.append(pa.table({key: _ids(table, key, shard), **arrays}))
    if not any(table.num_rows for table in tables):
        raise DataError(f"{files[0]}: holds no rows")
    features = pa.concat_tables(tables)
    ids = features[key].to_numpy()
    if (np.diff(ids) <= 0).any():
        order = np.argsort(ids, kind="stable")
        features = features.take(pa.array(order))
    with pa.ipc.new_file(path, features.schema) as writer:
        writer.write_table(features.combine_chunks())
    return FeatureTable(key=key, path=path, columns=columns)


@functools.lru_cache(maxsize=4)
def _mapped(path: str) -> tuple[pa.Table, np.ndarray]:
    table = pa.ipc.open_file(pa.memory_map(path)).read_all()
    return table, table.column(0).to_numpy()
