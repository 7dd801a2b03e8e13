from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diet_ray.config import from_mapping
from diet_ray.data.batch import FeatureSpec, SequenceSpec
from diet_ray.data.encoding import (
    NUM_STRATA,
    STRATUM,
    Encoder,
    encoded_schema,
    features_of,
    signed_log1p,
    to_batch,
)
from diet_ray.data.rows import LABEL, TIMESTAMP
from diet_ray.data.schema import Schema


def schema(*fields: dict) -> Schema:
    return from_mapping(
        Schema,
        {"timestamp": {"column": "t"}, "label": {"column": "y"}, "fields": list(fields)},
        "schema",
    )


def rows(n: int, **columns: object) -> pa.Table:
    fixed = {TIMESTAMP: pa.array(range(n), pa.int64()), LABEL: pa.array([1.0] * n, pa.float32())}
    return pa.table({**fixed, **columns})


def encoded(encoder: Encoder, table: pa.Table, learn: bool = True) -> pa.Table:
    """One stage of one shard."""
    coded = encoder.code(table, learn=learn)
    encoder.end_stage(learn=learn)
    return encoder.encode(coded, first_row=0, stage_offset=0, stage_rows=table.num_rows)


def test_numbers_are_standardised_logs_with_the_scale_of_the_first_stage() -> None:
    encoder = Encoder(schema({"name": "x", "kind": "numeric"}))
    values = [0.0, math.e - 1, math.nan, 1 - math.e**3]
    found = encoded(encoder, rows(4, x=values))["x"].to_numpy()
    mean, sd = -2 / 3, math.sqrt(((2 / 3) ** 2 + (5 / 3) ** 2 + (7 / 3) ** 2) / 3)
    expected = [(0 - mean) / sd, (1 - mean) / sd, 0.0, (-3 - mean) / sd]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    later = encoded(encoder, rows(1, x=[math.e**5 - 1]))["x"].to_numpy()
    np.testing.assert_allclose(later, [(5 - mean) / sd], rtol=1e-6)
    assert encoder.scales["x"].mean == pytest.approx(mean)


def test_constant_and_absent_numbers_do_not_divide_by_zero() -> None:
    encoder = Encoder(schema({"name": "x", "kind": "numeric"}, {"name": "z", "kind": "numeric"}))
    found = encoded(encoder, rows(2, x=[3.0, 3.0], z=[math.nan, math.nan]))
    assert found["x"].to_pylist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert found["z"].to_pylist() == [0.0, 0.0]


@given(
    blocks=st.lists(
        st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(math.nan)), min_size=1), min_size=1
    )
)
def test_the_scale_is_that_of_all_values_together(blocks: list[list[float]]) -> None:
    encoder = Encoder(schema({"name": "x", "kind": "numeric"}))
    for block in blocks:
        encoder.code(rows(len(block), x=pa.array(block)), learn=True)
    encoder.end_stage(learn=True)
    logs = signed_log1p(np.array([v for b in blocks for v in b if not math.isnan(v)]))
    scale = encoder.scales["x"]
    assert scale.mean == pytest.approx(logs.mean() if len(logs) else 0.0, abs=1e-9)
    sd = logs.std() if len(logs) else 0.0
    assert scale.sd == pytest.approx(sd if sd > 1e-9 else 1.0, abs=1e-6)


def test_a_test_stage_teaches_nothing() -> None:
    encoder = Encoder(
        schema({"name": "x", "kind": "numeric"}, {"name": "c", "kind": "categorical"})
    )
    encoded(encoder, rows(2, x=[0.0, 4.0], c=["a", "b"]))
    before = (encoder.num_ids, encoder.scales, encoder.state())
    found = encoded(encoder, rows(2, x=[9.0, 9.0], c=["new", "a"]), learn=False)
    assert found["c"].to_pylist() == [1, 2]
    after = (encoder.num_ids, encoder.scales, encoder.state())
    assert after == before


def test_the_last_items_of_a_list_are_kept_oldest_first() -> None:
    encoder = Encoder(schema({"name": "s", "kind": "sequence", "max_length": 2}))
    values = pa.array([["z"], ["a", "b", "c"], [], ["c"], [None, "a"]])[1:]
    found = encoded(encoder, rows(4, s=values))
    assert found["s"].to_pylist() == [[2, 3], [0, 0], [3, 0], [1, 4]]
    assert encoder.num_ids == {"s": 5}


def test_rows_fall_into_strata_by_label_time_and_rarity() -> None:
    encoder = Encoder(
        schema({"name": "c", "kind": "categorical"}, {"name": "d", "kind": "categorical"})
    )
    n = 80
    common = ["often"] * n
    mixed = ["often"] * 40 + ["sometimes"] * 32 + ["seldom"] * 4 + [None] * 4
    labels = pa.array([1.0, 0.0] * 40, pa.float32())
    table = rows(n, c=common, d=mixed).set_column(1, LABEL, labels)
    found = encoded(encoder, table)[STRATUM].to_numpy()
    rarity = [2] * 40 + [1] * 32 + [0] * 8
    expected = [int(1 - i % 2) + 2 * (i // 20 + 4 * rarity[i]) for i in range(n)]
    assert found.tolist() == expected
    assert max(expected) < NUM_STRATA


def test_a_shard_knows_its_place_in_the_stage() -> None:
    encoder = Encoder(schema({"name": "c", "kind": "categorical"}))
    coded = encoder.code(rows(2, c=["a", "a"]), learn=True)
    encoder.end_stage(learn=True)
    found = encoder.encode(coded, first_row=106, stage_offset=6, stage_rows=8)
    assert found["_row"].to_pylist() == [106, 107]
    assert found[STRATUM].to_pylist() == [1 + 2 * 3] * 2


def test_encoded_rows_have_the_one_row_format() -> None:
    s = schema(
        {"name": "s", "kind": "sequence", "max_length": 3},
        {"name": "c", "kind": "categorical"},
        {"name": "x", "kind": "numeric"},
    )
    found = encoded(Encoder(s), rows(1, c=["a"], x=[1.0], s=[["p"]]))
    assert found.schema.names == ["_row", "_timestamp", "_label", "_stratum", "s", "c", "x"]
    assert found.schema.equals(encoded_schema(s))
    assert [str(f.type) for f in found.schema][:4] == ["int64", "int64", "float", "int32"]
    assert found.schema.field("s").type.list_size == 3
    assert found.schema.field("c").type == pa.int32()
    assert found.schema.field("x").type == pa.float32()


def test_features_say_which_ids_a_sequence_shares() -> None:
    s = schema(
        {"name": "u", "kind": "categorical"},
        {"name": "i", "kind": "categorical", "hash_buckets": 7},
        {"name": "x", "kind": "numeric"},
        {"name": "tags", "kind": "sequence", "max_length": 2},
        {"name": "seen", "kind": "sequence", "history_of": "i", "user": "u", "max_length": 5},
    )
    encoder = Encoder(s)
    assert features_of(s, encoder.num_ids) == FeatureSpec(
        categorical=("u", "i"),
        num_ids=(2, 9),
        numeric=("x",),
        sequence=(
            SequenceSpec(name="tags", max_length=2, target=None, num_ids=2),
            SequenceSpec(name="seen", max_length=5, target="i", num_ids=9),
        ),
    )


def test_a_batch_holds_fields_in_the_order_of_the_features() -> None:
    features = FeatureSpec(
        categorical=("b", "a"),
        num_ids=(9, 9),
        numeric=("x",),
        sequence=(
            SequenceSpec(name="s", max_length=1, target=None, num_ids=9),
            SequenceSpec(name="r", max_length=3, target="a", num_ids=9),
        ),
    )
    table = pa.table(
        {
            "a": pa.array([9, 1, 2], pa.int32()),
            "r": pa.array([[9] * 3, [1, 2, 3], [4, 0, 0]], pa.list_(pa.int32(), 3)),
            "s": pa.array([[9], [5], [6]], pa.list_(pa.int32(), 1)),
            "b": pa.array([9, 3, 4], pa.int32()),
            "x": pa.array([9, 0.5, -1], pa.float32()),
            LABEL: pa.array([0, 1, 0], pa.float32()),
            "_weight": [1.0, 2.0, 3.0],
        }
    )
    # Sliced and in two chunks, as files give it.
    batch = to_batch(pa.concat_tables([table.slice(1, 1), table.slice(2, 1)]), features)
    assert batch.categorical.tolist() == [[3, 1], [4, 2]]
    assert batch.numeric.tolist() == [[0.5], [-1.0]]
    assert batch.sequence.tolist() == [[[5, 0, 0], [1, 2, 3]], [[6, 0, 0], [4, 0, 0]]]
    assert batch.label.tolist() == [1.0, 0.0]
    assert (batch.categorical.dtype, batch.sequence.dtype) == (torch.int32, torch.int32)
    batch.label.add_(1)  # the tensors own their memory
    assert table[LABEL].to_pylist() == [0, 1, 0]
    assert len(to_batch(table.slice(0, 0), features)) == 0


def test_a_batch_may_lack_a_kind_of_field() -> None:
    features = FeatureSpec(categorical=(), num_ids=(), numeric=(), sequence=())
    batch = to_batch(pa.table({LABEL: pa.array([1, 0], pa.float32())}), features)
    assert batch.categorical.shape == (2, 0)
    assert batch.numeric.shape == (2, 0)
    assert batch.sequence.shape == (2, 0, 0)
