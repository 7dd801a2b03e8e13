"""From normalised rows to encoded rows, stage by stage, and from encoded rows to tensors.

A stage is read in two steps, because ids, the numeric scale and the strata need the whole of it:
`Encoder.code` turns rows into small *coded* rows as they arrive, `Encoder.end_stage` settles the
ids, `Encoder.encode` turns coded rows into the encoded rows of the log, in the same order.

Numeric fields: x ↦ (sign(x)·ln(1+|x|) − mean) / SD, with the mean and SD over the present values of
the first training stage, frozen from then on. Missing, NaN and infinite values become 0, the mean;
all others are clipped at ± `NUMERIC_LIMIT`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from diet_ray.data.batch import (
    NUM_RESERVED_IDS,
    PADDING_ID,
    Batch,
    FeatureSpec,
    SequenceSpec,
)
from diet_ray.data.history import History, UserKeys
from diet_ray.data.rows import LABEL, TIMESTAMP
from diet_ray.data.schema import Field, Schema
from diet_ray.data.vocabulary import HashedVocabulary, Vocabulary, vocabulary_of
from diet_ray.errors import DataError

ROW = "_row"
STRATUM = "_stratum"

NUM_TIME_SLICES = 4
RARITY_BOUNDS = (4, 32)
"""A row is of rarity 0 if its rarest categorical value was seen at most 4 times so far, of rarity 1
if at most 32 times, of rarity 2 otherwise."""
NUM_STRATA = 2 * NUM_TIME_SLICES * (len(RARITY_BOUNDS) + 1)

_USER_KEYS = "_user."

NUMERIC_LIMIT = 20.0
"""Standardised values are clipped at ± this, so that no single row has a gradient without bound."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Mean and SD of a numeric field's signed logarithms."""

    mean: float
    sd: float

    def __post_init__(self) -> None:
        if self.sd <= 0:
            raise ValueError("sd must be above 0")


class Encoder:
    """All that encoding learns from the training part, carried along the stream."""

    def __init__(self, schema: Schema, max_values: int | None = None) -> None:
        """max_values: distinct values that a vocabulary may come to, and users of a history."""
        self.schema = schema
        self._max_values = max_values
        self.vocabularies = {f.name: vocabulary_of(f) for f in _with_vocabulary(schema)}
        self.users = {f.user: UserKeys() for f in schema.fields if f.user is not None}
        self.histories = {f.name: History(f.max_length) for f in schema.fields if f.history_of}
        self.scales: dict[str, Scale] = {}
        self._moments = {f.name: _Moments() for f in schema.of_kind("numeric")}

    @property
    def num_ids(self) -> dict[str, int]:
        """Ids of each vocabulary so far."""
        return {name: v.num_ids for name, v in self.vocabularies.items()}

    def colliding_shares(self) -> dict[str, float]:
        """Of each hashed field, about which share of its values has an id with others."""
        hashed = {n: v for n, v in self.vocabularies.items() if isinstance(v, HashedVocabulary)}
        return {name: v.colliding_share for name, v in hashed.items()}

    def code(self, rows: pa.Table, *, learn: bool) -> pa.RecordBatch:
        """Coded rows; with `learn` (a training stage), values are counted and numbered.

        Raises `DataError` if a field has more values than may be.
        """
        columns: dict[str, pa.Array] = {name: _array(rows, name) for name in (TIMESTAMP, LABEL)}
        for field in self.schema.fields:
            if field.history_of is not None:
                continue
            values = _array(rows, field.name)
            if field.kind == "numeric":
                logs = signed_log1p(values.to_numpy())
                if learn and field.name not in self.scales:
                    self._moments[field.name].add(logs)
                columns[field.name] = pa.array(logs.astype(np.float32))
                continue
            vocabulary = self.vocabularies[field.name]
            if field.kind == "categorical":
                codes = vocabulary.learn(values) if learn else vocabulary.look_up(values)
                columns[field.name] = pa.array(codes)
            else:
                columns[field.name] = _code_sequences(values, field, vocabulary, learn)
            if not isinstance(vocabulary, HashedVocabulary):
                self._check_number(field.name, vocabulary.num_codes - NUM_RESERVED_IDS)
        for name, keys in self.users.items():
            columns[_USER_KEYS + name] = pa.array(keys.of(_array(rows, name)))
            self._check_number(name, len(keys))
        return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))

    def _check_number(self, name: str, num_values: int) -> None:
        if self._max_values is not None and num_values > self._max_values:
            raise DataError(
                f"field `{name}`: {num_values} distinct values are more than `intake: max_values` "
                "allows: do its values ever come back? Leave it out, set `hash_buckets`, or allow "
                "more"
            )

    def end_stage(self, *, learn: bool) -> None:
        """Settles ids and, after the first training stage, the numeric scales."""
        if not learn:
            return
        for vocabulary in self.vocabularies.values():
            vocabulary.admit()
        if not self.scales:
            self.scales = {name: m.scale() for name, m in self._moments.items()}

    def encode(
        self, coded: pa.RecordBatch, *, first_row: int, stage_offset: int, stage_rows: int
    ) -> pa.Table:
        """Encoded rows, whose first is row `stage_offset` of a stage of `stage_rows` rows."""
        n = coded.num_rows
        codes = {name: _matrix(coded.column(name)) for name in coded.schema.names}
        columns: dict[str, np.ndarray] = {}
        for field in self.schema.fields:
            if field.history_of is not None:
                seen = self.histories[field.name].advance(
                    codes[_USER_KEYS + str(field.user)],
                    codes[field.history_of],
                    codes[LABEL] == 1.0,
                    codes[TIMESTAMP],
                )
                columns[field.name] = self.vocabularies[field.history_of].ids(seen)
            elif field.kind == "numeric":
                scale = self.scales[field.name]
                standardised = (codes[field.name] - np.float32(scale.mean)) / np.float32(scale.sd)
                columns[field.name] = np.nan_to_num(standardised).clip(
                    -NUMERIC_LIMIT, NUMERIC_LIMIT
                )
            else:
                columns[field.name] = self.vocabularies[field.name].ids(codes[field.name])
        row = np.arange(n, dtype=np.int64)
        strata = self._strata(codes, (row + stage_offset) * NUM_TIME_SLICES // stage_rows)
        columns = {
            ROW: row + first_row,
            TIMESTAMP: codes[TIMESTAMP],
            LABEL: codes[LABEL],
            STRATUM: strata.astype(np.int32),
            **columns,
        }
        target = encoded_schema(self.schema)
        return pa.table([_column(columns[f.name], f.type) for f in target], schema=target)

    def _strata(self, codes: dict[str, np.ndarray], time_slice: np.ndarray) -> np.ndarray:
        rarest = np.full(len(time_slice), np.iinfo(np.int64).max)
        for field in self.schema.of_kind("categorical"):
            np.minimum(rarest, self.vocabularies[field.name].counts(codes[field.name]), out=rarest)
        rarity = np.searchsorted(np.array(RARITY_BOUNDS), rarest)
        return codes[LABEL].astype(np.int64) + 2 * (time_slice + NUM_TIME_SLICES * rarity)

    def state(self) -> dict[str, pa.Table]:
        """Vocabularies and histories as tables, by `vocabulary/<field>` and `history/<field>`."""
        tables = {f"vocabulary/{name}": v.to_table() for name, v in self.vocabularies.items()}
        for field in self.schema.fields:
            if field.user is not None:
                users = self.users[field.user].values()
                tables[f"history/{field.name}"] = self.histories[field.name].to_table(users)
        return tables

    def restore(
        self, tables: Mapping[str, pa.Table], scales: Mapping[str, Scale], last_us: int
    ) -> None:
        """Becomes what `state` was called on, after a row at `last_us`."""
        for name, vocabulary in self.vocabularies.items():
            vocabulary.restore(tables[f"vocabulary/{name}"])
        restored: set[str] = set()
        for field in self.schema.fields:
            if field.user is not None:
                table = tables[f"history/{field.name}"]
                num_codes = self.vocabularies[str(field.history_of)].num_codes
                self.histories[field.name].restore(table, last_us, num_codes)
                if field.user not in restored:
                    self.users[field.user].restore(table["user"].to_pylist())
                    restored.add(field.user)
        self.scales = dict(scales)


def features_of(schema: Schema, num_ids: Mapping[str, int]) -> FeatureSpec:
    """What a model is built for, given the ids of each vocabulary."""
    categorical = tuple(f.name for f in schema.of_kind("categorical"))
    return FeatureSpec(
        categorical=categorical,
        num_ids=tuple(num_ids[name] for name in categorical),
        numeric=tuple(f.name for f in schema.of_kind("numeric")),
        sequence=tuple(
            SequenceSpec(
                name=f.name,
                max_length=f.max_length,
                target=f.history_of,
                num_ids=num_ids[f.history_of or f.name],
            )
            for f in schema.of_kind("sequence")
        ),
    )


def encoded_schema(schema: Schema) -> pa.Schema:
    """Columns and types of encoded rows."""
    fields = [
        pa.field(ROW, pa.int64(), nullable=False),
        pa.field(TIMESTAMP, pa.int64(), nullable=False),
        pa.field(LABEL, pa.float32(), nullable=False),
        pa.field(STRATUM, pa.int32(), nullable=False),
    ]
    for f in schema.fields:
        kind: pa.DataType = {"categorical": pa.int32(), "numeric": pa.float32()}.get(f.kind)
        if f.kind == "sequence":
            kind = pa.list_(pa.field("item", pa.int32(), nullable=False), f.max_length)
        fields.append(pa.field(f.name, kind, nullable=False))
    return pa.schema(fields)


def to_batch(table: pa.Table, features: FeatureSpec) -> Batch:
    """Encoded Arrow rows (or slots) as tensors; other columns are left out."""
    n = table.num_rows
    categorical = np.empty((n, len(features.categorical)), dtype=np.int32)
    for i, name in enumerate(features.categorical):
        categorical[:, i] = _matrix(table[name])
    numeric = np.empty((n, len(features.numeric)), dtype=np.float32)
    for i, name in enumerate(features.numeric):
        numeric[:, i] = _matrix(table[name])
    shape = (n, len(features.sequence), features.max_sequence_length)
    sequence = np.full(shape, PADDING_ID, dtype=np.int32)
    for i, spec in enumerate(features.sequence):
        sequence[:, i, : spec.max_length] = _matrix(table[spec.name])
    label = np.array(_matrix(table[LABEL]), dtype=np.float32)
    return Batch(*(torch.from_numpy(a) for a in (categorical, numeric, sequence, label)))


def signed_log1p(values: np.ndarray) -> np.ndarray:
    """sign(x)·ln(1+|x|), elementwise."""
    return np.copysign(np.log1p(np.abs(values)), values)


class _Moments:
    """Count, mean and sum of squared deviations, merged block by block (Chan et al. 1983)."""

    def __init__(self) -> None:
        self.num = 0
        self.mean = 0.0
        self.squares = 0.0

    def add(self, values: np.ndarray) -> None:
        values = values[~np.isnan(values)]
        if not len(values):
            return
        mean = float(values.mean())
        squares = float(((values - mean) ** 2).sum())
        num = self.num + len(values)
        delta = mean - self.mean
        self.squares += squares + delta * delta * self.num * len(values) / num
        self.mean += delta * len(values) / num
        self.num = num

    def scale(self) -> Scale:
        sd = math.sqrt(self.squares / self.num) if self.num else 0.0
        return Scale(mean=self.mean, sd=sd if sd > 1e-9 else 1.0)


def _with_vocabulary(schema: Schema) -> tuple[Field, ...]:
    return tuple(f for f in schema.fields if f.kind != "numeric" and f.history_of is None)


def _code_sequences(
    values: pa.ListArray, field: Field, vocabulary: Vocabulary, learn: bool
) -> pa.Array:
    """Codes (n, max_length) of the last items of each list, as a fixed-size list array."""
    ends = values.offsets.to_numpy().astype(np.int64)
    lengths = np.minimum(np.diff(ends), field.max_length)
    place = np.arange(field.max_length)
    is_item = place < lengths[:, None]
    kept = ((ends[1:] - lengths)[:, None] + place)[is_item]
    items = values.values.take(pa.array(kept))
    codes = np.full((len(values), field.max_length), PADDING_ID, dtype=np.int32)
    codes[is_item] = vocabulary.learn(items) if learn else vocabulary.look_up(items)
    return _column(codes, pa.list_(pa.int32(), field.max_length))


def _array(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _matrix(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """(n,) of a plain column, (n, length) of a column of fixed-size lists."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        return column.flatten().to_numpy().reshape(-1, column.type.list_size)
    return column.to_numpy(zero_copy_only=False)


def _column(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        flat = pa.array(np.ascontiguousarray(values).reshape(-1), kind.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, type=kind)
    return pa.array(values, kind)
