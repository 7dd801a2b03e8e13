"""A distilled dataset as its users see it: load it, train on it, look at it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from diet_ray.data.batch import NUM_RESERVED_IDS, Batch, FeatureSpec
from diet_ray.data.encoding import features_of, to_batch
from diet_ray.data.schema import Schema
from diet_ray.errors import DataError, DistilledSetError
from diet_ray.memory import manifest as layout
from diet_ray.memory.manifest import Manifest
from diet_ray.memory.publish import num_ids, read_verified
from diet_ray.memory.slots import canonical, check_slots, slot_schema, to_columns
from diet_ray.storage import Folder, table_from_parquet
from diet_ray.training.loop import distilled_targets
from diet_ray.training.recipe import Recipe

_READ_ATTEMPTS = 5


class SlotRow(NamedTuple):
    """One slot, or a mini-batch of slots with a leading dimension B on every tensor.

    `Batch(*row[:4])` is what models take.
    """

    categorical: Tensor
    """int32 (C,)"""
    numeric: Tensor
    """float32 (N,)"""
    sequence: Tensor
    """int32 (S, L)"""
    label: Tensor
    """float32 (): the label that was observed."""
    target: Tensor
    """float32 (): what to train on, a probability plus a share of the residual; it may lie outside
    [0, 1], for which softplus(z) − target · z is a loss all the same."""
    weight: Tensor
    """float32 (): rows of the log that the slot stands for."""


class SlotDataset(torch.utils.data.Dataset[SlotRow]):
    """Slots in time order. Batches of `torch.utils.data.DataLoader` are `SlotRow`s."""

    def __init__(self, batch: Batch, target: Tensor, weight: Tensor) -> None:
        fields = (batch.categorical, batch.numeric, batch.sequence, batch.label)
        self._columns = SlotRow(*fields, target, weight)

    def __len__(self) -> int:
        return self._columns.label.shape[0]

    def __getitem__(self, index: int) -> SlotRow:
        return SlotRow(*(column[index] for column in self._columns))


@dataclass(frozen=True, kw_only=True, eq=False)
class DistilledDataset:
    """The content of a distilled dataset's folder, all of it checked. Slots are in time order."""

    path: str
    manifest: Manifest
    slots: pa.Table
    """The contract's columns; see `slots` for their types, `compact` for their precision."""
    vocabularies: dict[str, pa.Table]
    """Columns value, id, count of every field that has a vocabulary; in order of ids from 2.

    Those that occur in the slots: any other value is `UNKNOWN_ID`.
    """

    @classmethod
    def load(cls, path: str | Path | Folder) -> DistilledDataset:
        """Reads and checks a distilled dataset.

        Raises `DistilledSetError` naming the file that is missing, damaged, of another version, or
        not what the manifest says. While a new version is being written, gives the old or the new.
        """
        folder = Folder.at(path)
        for attempt in range(_READ_ATTEMPTS):
            manifest = _read_manifest(folder)
            contents = _read_files(folder, manifest)
            missing = [name for name, content in contents.items() if content is None]
            if not missing:
                break
            if attempt == _READ_ATTEMPTS - 1 or _read_manifest(folder) == manifest:
                raise DistilledSetError(
                    f"{folder}/{missing[0]}: missing, or not what {layout.NAME} says: copy the "
                    "whole folder again, or distil again"
                )
        found = {name: content for name, content in contents.items() if content is not None}
        if layout.SLOTS not in found:
            raise DistilledSetError(f"{folder}/{layout.NAME}: names no {layout.SLOTS}")
        return cls(
            path=str(folder),
            manifest=manifest,
            slots=_slots(found[layout.SLOTS], manifest, f"{folder}/{layout.SLOTS}"),
            vocabularies={
                Path(name).stem: _vocabulary(name, content, manifest, f"{folder}/{name}")
                for name, content in found.items()
                if name.startswith(layout.VOCABULARY)
            },
        )

    @property
    def schema(self) -> Schema:
        return self.manifest.schema

    @property
    def features(self) -> FeatureSpec:
        return self.manifest.features

    @property
    def recipe(self) -> Recipe:
        return self.manifest.recipe

    @property
    def num_slots(self) -> int:
        return self.manifest.num_slots

    @property
    def row_fraction(self) -> float:
        """Slots over rows of the log that they stand for."""
        return self.num_slots / self.manifest.num_rows_seen

    @property
    def byte_fraction(self) -> float:
        """Bytes that ship (slots, vocabularies, codebooks, embeddings) over the log's."""
        return self.manifest.num_bytes.total / self.manifest.source_bytes

    @cached_property
    def weights(self) -> Tensor:
        """Rows that each slot stands for, float64 (M,)."""
        return torch.from_numpy(self._column("_weight"))

    def batch(self) -> Batch:
        """All slots as a batch; its labels are the observed ones."""
        return to_batch(self.slots, self.features)

    def targets(self, residual_share: float | None = None) -> Tensor:
        """σ(soft label) + residual_share · residual, float32 (M,); the share of the recipe if left
        out."""
        share = self.recipe.residual_share if residual_share is None else residual_share
        soft_label = torch.from_numpy(self._column("_soft_label"))
        return distilled_targets(soft_label, torch.from_numpy(self._column("_residual")), share)

    def to_torch(self, residual_share: float | None = None) -> SlotDataset:
        """For `torch.utils.data.DataLoader`."""
        return SlotDataset(self.batch(), self.targets(residual_share), self.weights.float())

    def to_pandas(self, decode: bool = False) -> pd.DataFrame:
        """One row a slot. With `decode`, ids become the log's own values.

        Then an unknown or missing value is None, sequences are lists without padding, and hashed
        fields keep their ids; numeric fields are standardised either way.
        """
        frame: dict[str, object] = {}
        for name, values in to_columns(self.slots).items():
            column: object = values if values.ndim == 1 else list(values)
            if decode and not name.startswith("_"):
                column = self._decoded(name, values)
            frame[name] = column
        return pd.DataFrame(frame)

    def _decoded(self, name: str, ids: np.ndarray) -> object:
        field = next(f for f in self.schema.fields if f.name == name)
        vocabulary = self.vocabularies.get(field.history_of or name)
        lists = ids.ndim == 2
        if vocabulary is None:
            return [row[row > 0] for row in ids] if lists else ids
        values = np.empty(num_ids(self.manifest)[name], dtype=object)
        values[vocabulary["id"].to_numpy()] = vocabulary["value"].to_pylist()
        decoded = values[ids]
        return [list(v[row > 0]) for v, row in zip(decoded, ids, strict=True)] if lists else decoded

    def _column(self, name: str) -> np.ndarray:
        return to_columns(self.slots.select([name]))[name].copy()


def _read_manifest(folder: Folder) -> Manifest:
    where = f"{folder}/{layout.NAME}"
    try:
        content = folder.read(layout.NAME)
    except FileNotFoundError:
        raise DistilledSetError(f"{where}: no such file: no distilled dataset here") from None
    except OSError as e:
        raise DistilledSetError(f"{where}: can't be read: {e}") from None
    manifest = Manifest.from_bytes(content, where)
    try:
        fits = features_of(manifest.schema, num_ids(manifest)) == manifest.features
    except KeyError:
        fits = False
    if not fits:
        raise DistilledSetError(f"{where}: `features` aren't those of its `schema`")
    if manifest.num_rows_seen < 1 or manifest.source_bytes < 1:
        raise DistilledSetError(f"{where}: num_rows_seen and source_bytes must be above 0")
    return manifest


def _read_files(folder: Folder, manifest: Manifest) -> dict[str, bytes | None]:
    try:
        return {n: read_verified(folder, n, record) for n, record in manifest.files.items()}
    except (DataError, OSError) as e:
        raise DistilledSetError(f"{folder}/{layout.NAME}: {e}") from None


def _table(content: bytes, where: str) -> pa.Table:
    try:
        return table_from_parquet(content)
    except (pa.ArrowException, OSError) as e:
        raise DistilledSetError(f"{where}: no Parquet file: {' '.join(str(e).split())}") from None


def _vocabulary(name: str, content: bytes, manifest: Manifest, where: str) -> pa.Table:
    table = _table(content, where)
    field = name.removeprefix(layout.VOCABULARY).removesuffix(".parquet")
    limit = num_ids(manifest).get(field)
    kinds = [("value", pa.string()), ("id", pa.int32()), ("count", pa.int64())]
    if limit is None or [(f.name, f.type) for f in table.schema] != kinds:
        raise DistilledSetError(f"{where}: is no vocabulary of the schema's fields")
    ids = table["id"].to_numpy()
    if table["id"].null_count or (
        len(ids)
        and not (ids[0] >= NUM_RESERVED_IDS and ids[-1] < limit and (np.diff(ids) > 0).all())
    ):
        raise DistilledSetError(
            f"{where}: ids must ascend from {NUM_RESERVED_IDS} to at most {limit - 1}"
        )
    return table


def _slots(content: bytes, manifest: Manifest, where: str) -> pa.Table:
    table = _table(content, where).replace_schema_metadata(None).combine_chunks()
    expected = slot_schema(manifest.schema)
    try:
        check_slots(canonical(table, expected), num_ids(manifest))
    except DistilledSetError as e:
        raise DistilledSetError(f"{where}: {e}") from None
    if table.num_rows != manifest.num_slots:
        raise DistilledSetError(
            f"{where}: {table.num_rows} slots where {layout.NAME} says {manifest.num_slots}"
        )
    return table.select(expected.names)
