"""Drawing negatives that can't know the future: only items that occurred before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_ray.data.raw.log import LABEL, TIME, Negatives

MERGE_TABLES = 8
"""First occurrences of so many runs are merged at a time."""


def first_occurrences(rows: pa.Table, item: str) -> pa.Table:
    """The rows, given in time order, in which an item occurs first. Rows without one are left out.

    rows: columns `time`, `item`, and others that go along.
    """
    values = rows[item].combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    # Codes are numbered by first appearance: a row is one where a new highest code appears.
    codes = pc.fill_null(pc.dictionary_encode(values).indices, -1).to_numpy(zero_copy_only=False)
    highest = np.maximum.accumulate(np.concatenate([[-1], codes]))
    return rows.take(pa.array(np.flatnonzero(np.diff(highest))))


def merge_occurrences(tables: Iterable[pa.Table], item: str) -> pa.Table:
    """First occurrences over all tables, in time order; of equal instants, an earlier table's."""
    known: list[pa.Table] = []
    for table in tables:
        known.append(table)
        if len(known) == MERGE_TABLES:
            known = [_merged(known, item)]
    return _merged(known, item)


@dataclass(frozen=True)
class KnownItems:
    """First occurrences of all items of a log."""

    table: pa.Table
    times: np.ndarray

    @classmethod
    def of(cls, table: pa.Table) -> KnownItems:
        return cls(table, table[TIME].to_numpy())

    def add_negatives(self, rows: pa.Table, first_row: int, negatives: Negatives) -> pa.Table:
        """Rows of positive events, each followed by its negatives, with a column `label`.

        first_row: how many rows of the log come before. A row at whose instant fewer items than
        one other than its own are known gets none.
        """
        n, per_row = rows.num_rows, negatives.per_row
        num_known = np.searchsorted(self.times, rows[TIME].to_numpy(), side="left")
        owner = np.repeat(np.arange(n), per_row)
        draw = np.arange(first_row * per_row, (first_row + n) * per_row)
        pool = np.maximum(num_known[owner], 1).astype(np.uint64)
        drawn = (mix(draw, negatives.seed) % pool).astype(np.int64)
        # Drawing the row's own item again means the next one.
        own = self._is_own(rows, owner, drawn, negatives.item)
        drawn = np.where(own, (drawn + 1) % pool.astype(np.int64), drawn)
        valid = num_known[owner] > 0
        valid &= ~(own & (num_known[owner] == 1))
        owner, drawn = owner[valid], drawn[valid]

        place = np.argsort(np.concatenate([np.arange(n), owner]), kind="stable")
        source = pa.array(np.concatenate([np.arange(n), owner])[place])
        columns = {name: rows[name] for name in rows.column_names}
        taken = {
            name: column.take(source)
            for name, column in columns.items()
            if name != negatives.item and name not in negatives.attributes
        }
        for name in (negatives.item, *negatives.attributes):
            others = self.table[name].take(pa.array(drawn))
            both = pa.chunked_array([*columns[name].chunks, *others.chunks])
            taken[name] = both.take(pa.array(place))
        is_positive = (np.arange(n + len(owner)) < n)[place]
        return pa.table(taken | {LABEL: pa.array(is_positive.astype(np.int8))})

    def _is_own(
        self, rows: pa.Table, owner: np.ndarray, drawn: np.ndarray, item: str
    ) -> np.ndarray:
        if not self.table.num_rows:
            return np.zeros(len(owner), bool)
        own = rows[item].combine_chunks().take(pa.array(owner))
        equal = pc.equal(self.table[item].take(pa.array(drawn)).combine_chunks(), own)
        return pc.fill_null(equal, False).to_numpy(zero_copy_only=False)


def mix(numbers: np.ndarray, seed: int) -> np.ndarray:
    """Uniform uint64 of counters: SplitMix64's finaliser (Steele, Lea & Flood 2014)."""
    with np.errstate(over="ignore"):
        x = numbers.astype(np.uint64) + np.uint64(seed % 2**32) * np.uint64(0x9E3779B97F4A7C15)
        x += np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def _merged(tables: list[pa.Table], item: str) -> pa.Table:
    rows = pa.concat_tables(tables).combine_chunks()
    order = np.argsort(rows[TIME].to_numpy(), kind="stable")
    return first_occurrences(rows.take(pa.array(order)), item).combine_chunks()
