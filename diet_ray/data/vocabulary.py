"""From a field's values to ids: append-only vocabularies, and hashing without one.

Values pass through two numberings. A *code* is given at a value's first appearance in the training
part, so that rows can be kept as small integers before it is known which values will be admitted;
an *id* is given when a stage ends and the value has been seen `min_count` times, counting that
stage. Both only ever grow: neither a code nor an id changes its meaning.

Codes are shifted like ids: 0 pads a sequence, 1 is a missing or unseen value, 2.. are values.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_ray.data.batch import NUM_RESERVED_IDS, PADDING_ID, UNKNOWN_ID
from diet_ray.data.schema import Field

_TABLE_SCHEMA = pa.schema(
    [
        pa.field("value", pa.string()),
        pa.field("id", pa.int32(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
    ]
)


class Vocabulary:
    """The values of one field, admitted from `min_count` occurrences on."""

    def __init__(self, min_count: int = 1) -> None:
        self.min_count = min_count
        self.num_ids = NUM_RESERVED_IDS
        self._codes: dict[str, int] = {}
        # Indexed by code.
        self._ids = np.array([PADDING_ID, UNKNOWN_ID], dtype=np.int32)
        self._counts = np.zeros(NUM_RESERVED_IDS, dtype=np.int64)

    def learn(self, values: pa.Array) -> np.ndarray:
        """Codes (int32) of values, new ones included, which are counted."""
        uniques, inverse = _distinct(values)
        codes = self._codes
        first = NUM_RESERVED_IDS
        table = np.array([codes.setdefault(v, len(codes) + first) for v in uniques], dtype=np.int64)
        self._grow()
        self._counts[table] += np.bincount(inverse, minlength=len(uniques) + 1)[: len(uniques)]
        return _take(table, inverse)

    def look_up(self, values: pa.Array) -> np.ndarray:
        """Codes (int32) of values; those never learnt are 1. Changes nothing."""
        uniques, inverse = _distinct(values)
        table = np.array([self._codes.get(v, UNKNOWN_ID) for v in uniques], dtype=np.int64)
        return _take(table, inverse)

    def admit(self) -> None:
        """Gives ids, in order of codes, to the values that have reached `min_count`."""
        waiting = (self._ids == UNKNOWN_ID) & (self._counts >= self.min_count)
        new = np.flatnonzero(waiting)
        self._ids[new] = np.arange(self.num_ids, self.num_ids + len(new), dtype=np.int32)
        self.num_ids += len(new)

    def ids(self, codes: np.ndarray) -> np.ndarray:
        """Ids (int32) of codes, of any shape."""
        return self._ids[codes]

    def counts(self, codes: np.ndarray) -> np.ndarray:
        """How often the codes' values occurred in the training part so far; unknown is 0."""
        return self._counts[codes]

    @property
    def num_codes(self) -> int:
        """Codes lie below it."""
        return len(self._ids)

    def values(self) -> list[str]:
        """In order of codes, the first of which is 2."""
        return list(self._codes)

    def to_table(self) -> pa.Table:
        """Columns value, id (1 while not admitted), count; in order of codes."""
        first = NUM_RESERVED_IDS
        columns = [list(self._codes), self._ids[first:], self._counts[first:]]
        return pa.table(columns, schema=_TABLE_SCHEMA)

    def restore(self, table: pa.Table) -> None:
        """Becomes what `to_table` was called on. Raises ValueError if it is no such table."""
        values, ids, counts = _columns(table)
        given = np.sort(ids[ids >= NUM_RESERVED_IDS])
        if None in values or len(set(values)) < len(values) or counts.min(initial=0) < 0:
            raise ValueError("values must differ, counts be at least 0")
        if ids.min(initial=UNKNOWN_ID) < UNKNOWN_ID or not np.array_equal(
            given, np.arange(NUM_RESERVED_IDS, NUM_RESERVED_IDS + len(given))
        ):
            raise ValueError(f"ids must be {UNKNOWN_ID}, or {NUM_RESERVED_IDS} and on, each once")
        self._codes = {v: i + NUM_RESERVED_IDS for i, v in enumerate(values)}
        self._grow()
        self._ids[NUM_RESERVED_IDS:] = ids
        self._counts[NUM_RESERVED_IDS:] = counts
        self.num_ids = int(max(self._ids.max(), UNKNOWN_ID)) + 1

    def _grow(self) -> None:
        size = NUM_RESERVED_IDS + len(self._codes)
        extra = size - len(self._ids)
        if extra > 0:
            self._ids = np.concatenate([self._ids, np.full(extra, UNKNOWN_ID, dtype=np.int32)])
            self._counts = np.concatenate([self._counts, np.zeros(extra, dtype=np.int64)])


class HashedVocabulary(Vocabulary):
    """Ids by hashing into a fixed number of buckets; a code is the id, an entry a bucket."""

    def __init__(self, num_buckets: int) -> None:
        super().__init__()
        self.num_buckets = num_buckets
        self.num_ids = NUM_RESERVED_IDS + num_buckets
        self._counts = np.zeros(self.num_ids, dtype=np.int64)

    @property
    def colliding_share(self) -> float:
        """About which share of the values seen so far has its bucket with another: 1 − exp(−n/b).

        The number of values n is that of linear counting, −b·ln(empty share of the b buckets)
        (Whang, Vander-Zanden and Taylor, 1990), so that the share is that of the full buckets.
        """
        return float((self._counts[NUM_RESERVED_IDS:] > 0).mean())

    def learn(self, values: pa.Array) -> np.ndarray:
        codes = self.look_up(values)
        self._counts += np.bincount(codes, minlength=self.num_ids)
        self._counts[UNKNOWN_ID] = 0
        return codes

    def look_up(self, values: pa.Array) -> np.ndarray:
        uniques, inverse = _distinct(values)
        hashed = stable_hash(uniques) % np.uint64(self.num_buckets)
        return _take(hashed.astype(np.int64) + NUM_RESERVED_IDS, inverse)

    def admit(self) -> None:
        pass

    @property
    def num_codes(self) -> int:
        return self.num_ids

    def ids(self, codes: np.ndarray) -> np.ndarray:
        return codes

    def to_table(self) -> pa.Table:
        """Columns value (null: a bucket has no single one), id, count."""
        ids = np.arange(NUM_RESERVED_IDS, self.num_ids, dtype=np.int32)
        values = pa.nulls(self.num_buckets, pa.string())
        return pa.table([values, ids, self._counts[NUM_RESERVED_IDS:]], schema=_TABLE_SCHEMA)

    def restore(self, table: pa.Table) -> None:
        _, _, counts = _columns(table)
        if len(counts) != self.num_buckets or counts.min(initial=0) < 0:
            raise ValueError(f"must hold {self.num_buckets} counts of at least 0")
        self._counts[NUM_RESERVED_IDS:] = counts


def _columns(table: pa.Table) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Values, ids and counts. Raises ValueError if the table has other columns, or nulls."""
    if not table.schema.remove_metadata().equals(_TABLE_SCHEMA):
        raise ValueError(f"columns must be {', '.join(_TABLE_SCHEMA.names)}")
    return table["value"].to_pylist(), table["id"].to_numpy(), table["count"].to_numpy()


def vocabulary_of(field: Field) -> Vocabulary:
    """An empty vocabulary of the kind that the field asks for."""
    return (
        HashedVocabulary(field.hash_buckets) if field.hash_buckets else Vocabulary(field.min_count)
    )


def stable_hash(texts: list[str]) -> np.ndarray:
    """64-bit hashes (uint64) of texts, the same on every machine and in every run.

    h(s) = mix(n + Σ_i (s_i + 1) · P^(i+1) mod 2^64) over the n UTF-8 bytes s_i, P an odd constant,
    mix the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    """
    encoded = [t.encode() for t in texts]
    lengths = np.array([len(e) for e in encoded], dtype=np.int64)
    data = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    ends = np.cumsum(lengths)
    positions = np.arange(len(data)) - np.repeat(ends - lengths, lengths)
    odd = np.full(int(lengths.max(initial=0)), 0x9E3779B97F4A7C15, dtype=np.uint64)
    terms = (data.astype(np.uint64) + np.uint64(1)) * np.cumprod(odd)[positions]
    # A text's sum as the difference of running sums, which wrap around consistently.
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms)])
    h = running[ends] - running[ends - lengths] + lengths.astype(np.uint64)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


def _distinct(values: pa.Array) -> tuple[list[str], np.ndarray]:
    """Distinct values as text in order of appearance, and each row's index into them.

    A missing value has the index len(distinct).
    """
    encoded = pc.dictionary_encode(values)
    uniques = encoded.dictionary.cast(pa.string()).to_pylist()
    return uniques, pc.fill_null(encoded.indices, len(uniques)).to_numpy(zero_copy_only=False)


def _take(table: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    return np.append(table, UNKNOWN_ID).astype(np.int32)[inverse]
