"""Tables of features by id, kept in files that processes map into memory and so share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_ray.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A column as a plain file of `dtype`; text as codes into `values`."""

    path: str
    dtype: str
    values: tuple[str, ...] | None = None
    """Text by code; -1 is none."""


@dataclass(frozen=True, kw_only=True)
class FeatureTable:
    columns: Mapping[str, Feature]
    keys: str | None
    """File of the ids in increasing order; None: the ids are 0, 1, ..."""
    rows: str | None
    """File of the rows in which the sorted ids lie; None: in that order."""
    num_rows: int

    def look_up(self, ids: pa.Array) -> dict[str, pa.Array]:
        """The columns' values for integer ids; null where an id is missing or unknown."""
        wanted = pc.fill_null(ids, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        row, known = self._rows(wanted)
        found: dict[str, pa.Array] = {}
        for name, feature in self.columns.items():
            stored = np.memmap(feature.path, feature.dtype, "r")
            values = np.asarray(stored[row])
            if feature.values is not None:
                missing = ~known | (values < 0)
                codes = pa.array(values, mask=missing)
                found[name] = pa.DictionaryArray.from_arrays(
                    codes, pa.array(feature.values, pa.string())
                )
            elif feature.dtype.startswith("f"):
                found[name] = pa.array(values, mask=~known | np.isnan(values))
            else:
                found[name] = pa.array(values, mask=~known | (values == np.iinfo(values.dtype).min))
        return found

    def _rows(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of ids, 0 for unknown ones, and which are known."""
        if self.keys is None:
            known = (wanted >= 0) & (wanted < self.num_rows)
            return np.where(known, wanted, 0), known
        keys = np.memmap(self.keys, np.int64, "r")
        place = np.minimum(np.searchsorted(keys, wanted), self.num_rows - 1)
        known = keys[place] == wanted
        row = place if self.rows is None else np.memmap(self.rows, np.int64, "r")[place]
        return np.where(known, row, 0), known


@dataclass
class _Writer:
    """One column while it grows."""

    path: Path
    stack: ExitStack
    codes: dict[str, int] = field(default_factory=dict)
    dtype: str = ""
    is_text: bool = False

    def __post_init__(self) -> None:
        self._file = self.stack.enter_context(self.path.open("wb"))

    def add(self, column: pa.Array) -> None:
        if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
            self.dtype, self.is_text = "i4", True
            encoded = (
                column if pa.types.is_dictionary(column.type) else pc.dictionary_encode(column)
            )
            known = self.codes
            table = np.array(
                [known.setdefault(v, len(known)) for v in encoded.dictionary.to_pylist()] + [-1],
                np.int32,
            )
            index = pc.fill_null(encoded.indices, len(table) - 1)
            table[index.to_numpy(zero_copy_only=False)].tofile(self._file)
        elif pa.types.is_floating(column.type):
            self.dtype = "f4"
            pc.fill_null(column, np.nan).to_numpy(zero_copy_only=False).astype("f4").tofile(
                self._file
            )
        else:
            wide = column.type == pa.int64()
            self.dtype = "i8" if wide else "i4"
            lowest = np.iinfo(self.dtype).min
            column = column.cast(pa.int64() if wide else pa.int32())
            pc.fill_null(column, lowest).to_numpy(zero_copy_only=False).tofile(self._file)


def build(tables: Iterable[pa.Table], key: str, scratch: Path, where: str) -> FeatureTable:
    """Writes a feature table into `scratch`, in one pass. Of an id's rows the last one counts.

    tables: the integer column `key`, and the features: text, whole numbers, or floats, which are
    kept as float32. Raises `DataError` beginning with `where` if there are no rows.
    """
    keys: list[np.ndarray] = []
    writers: dict[str, _Writer] = {}
    with ExitStack() as stack:
        for table in tables:
            present = table.filter(pc.is_valid(table[key])).combine_chunks()
            if not present.num_rows:
                continue
            keys.append(present[key].to_numpy().astype(np.int64))
            for name in present.column_names:
                if name == key:
                    continue
                if name not in writers:
                    writers[name] = _Writer(scratch / f"{key}.{name}", stack)
                writers[name].add(present[name].combine_chunks())
    if not keys:
        raise DataError(f"{where}: holds no rows")
    ids = np.concatenate(keys)
    columns = {
        name: Feature(
            path=str(w.path),
            dtype=w.dtype,
            values=tuple(w.codes) if w.is_text else None,
        )
        for name, w in writers.items()
    }
    if np.array_equal(ids, np.arange(len(ids))):
        return FeatureTable(columns=columns, keys=None, rows=None, num_rows=len(ids))
    # Stable, and the last of equal ids is the one that stays.
    order = np.argsort(ids, kind="stable")
    is_last = np.append(np.diff(ids[order]) > 0, True)
    order = order[is_last]
    key_path, row_path = scratch / f"{key}.keys", scratch / f"{key}.rows"
    ids[order].tofile(key_path)
    order.tofile(row_path)
    return FeatureTable(
        columns=columns, keys=str(key_path), rows=str(row_path), num_rows=len(order)
    )
