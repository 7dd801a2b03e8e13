from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diet_ray.data.raw import features
from diet_ray.errors import DataError


def table(keys: list) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(keys, pa.int64()),
            "text": [None if k is None or k % 5 == 0 else f"t{k % 3}" for k in keys],
            "whole": pa.array([None if k is None or k % 4 == 0 else k for k in keys], pa.int32()),
            "wide": pa.array([None if k is None else k << 33 for k in keys], pa.int64()),
            "real": pa.array(
                [None if k is None or k % 3 == 0 else k / 2 for k in keys], pa.float64()
            ),
        }
    )


@given(
    keys=st.lists(st.integers(0, 60), min_size=1, unique=True),
    dense=st.booleans(),
    wanted=st.lists(st.one_of(st.none(), st.integers(-2, 70)), min_size=1),
    cut=st.integers(0, 60),
)
def test_features_are_those_of_the_id(
    tmp_path_factory: pytest.TempPathFactory, keys: list[int], dense: bool, wanted: list, cut: int
) -> None:
    if dense:
        keys = list(range(len(keys)))
    rows = table(keys)
    made = features.build(
        [rows.slice(0, cut), rows.slice(cut)], "id", tmp_path_factory.mktemp("features"), "x"
    )
    assert (made.keys is None) == (keys == list(range(len(keys))))
    found = made.look_up(pa.array(wanted, pa.int64()))
    by_key = {r["id"]: r for r in rows.to_pylist()}
    for name in ("text", "whole", "wide", "real"):
        expected = [by_key.get(w, {}).get(name) for w in wanted]
        assert found[name].to_pylist() == expected


def test_the_last_row_of_an_id_counts_and_one_without_id_does_not(tmp_path: Path) -> None:
    rows = pa.table({"id": pa.array([7, 3, None, 7], pa.int64()), "text": ["a", "b", "c", "d"]})
    made = features.build([rows], "id", tmp_path, "x")
    assert made.look_up(pa.array([3, 7, 0]))["text"].to_pylist() == ["b", "d", None]


def test_text_that_is_always_missing_stays_text(tmp_path: Path) -> None:
    rows = pa.table({"id": [0, 1], "text": pa.array([None, None], pa.string())})
    found = features.build([rows], "id", tmp_path, "x").look_up(pa.array([1, 5]))["text"]
    assert found.to_pylist() == [None, None]
    assert found.type == pa.dictionary(pa.int32(), pa.string())


def test_a_table_without_rows_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"users\.csv: holds no rows"):
        features.build([], "id", tmp_path, "users.csv")
