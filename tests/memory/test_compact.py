from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diet_ray.memory.compact import MANTISSA_BITS, round_floats, rounded, smallest_parquet
from diet_ray.memory.slots import to_columns
from diet_ray.storage import parquet_from_table, table_from_parquet
from tests.memory.small_memory import make_slots


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_rounding_by_hand(kind: type) -> None:
    # In binary: 1.001 and 0.1011 to two bits of fraction, a tie, and what nothing is done to.
    values = np.array([1.125, 0.6875, -1.375, -1.75, 0.0, 96.0, np.inf], dtype=kind)
    result = round_floats(values, 2)
    assert result.tolist() == [1.0, 0.75, -1.5, -1.75, 0.0, 96.0, np.inf]
    assert result.dtype == kind


def test_only_the_columns_named_are_rounded_and_by_no_more_than_said() -> None:
    slots = make_slots(500)
    before, after = to_columns(slots), to_columns(rounded(slots))
    assert rounded(slots).schema == slots.schema
    for name, values in before.items():
        if name not in MANTISSA_BITS:
            assert np.array_equal(after[name], values), name
            continue
        error = np.abs(after[name] - values) / np.abs(values)
        most = 2.0 ** -(MANTISSA_BITS[name] + 1)
        # Not less either: bits that are kept cost bytes.
        assert most / 2 < error.max() <= most, name


def test_a_training_target_moves_by_less_than_said() -> None:
    logit = np.linspace(-12, 12, 10_007)
    residual = np.linspace(-1, 1, 10_007)
    moved = _sigmoid(round_floats(logit, MANTISSA_BITS["_soft_label"])) - _sigmoid(logit)
    residual_moved = round_floats(residual, MANTISSA_BITS["_residual"]) - residual
    assert np.abs(moved).max() + np.abs(residual_moved).max() < 0.0004


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_any_table_reads_back_and_equal_tables_give_equal_bytes() -> None:
    for table in (make_slots(300), make_slots(0), make_slots(1)):
        content = smallest_parquet(table)
        assert table_from_parquet(content).equals(table)
        assert smallest_parquet(table) == content


def test_columns_are_encoded_by_what_they_hold() -> None:
    draw = np.random.default_rng(0)
    table = pa.table(
        {
            "ascending": np.arange(5000) * 7 + draw.integers(0, 3, 5000),
            "normal": draw.normal(size=5000).astype(np.float32),
            "two_values": np.where(draw.random(5000) < 0.5, 0.1, 0.7),
            "text": [f"user {i}" for i in range(10_000, 15_000)],
        }
    )
    content = smallest_parquet(table)
    group = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(0)
    encodings = {c.path_in_schema: c.encodings for c in map(group.column, range(4))}
    assert "DELTA_BINARY_PACKED" in encodings["ascending"]
    assert "BYTE_STREAM_SPLIT" in encodings["normal"]
    assert "RLE_DICTIONARY" in encodings["two_values"]
    assert "DELTA_BYTE_ARRAY" in encodings["text"]
    assert len(content) < len(parquet_from_table(table)) / 2


def test_items_of_a_sequence_are_encoded_like_other_ids() -> None:
    ids = np.arange(6000, dtype=np.int32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(ids), type=pa.list_(pa.int32(), 3))
    content = smallest_parquet(pa.table({"seen": lists}))
    column = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(0).column(0)
    assert "DELTA_BINARY_PACKED" in column.encodings
