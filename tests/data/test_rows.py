"""Raw columns of every type in one form, and each bad value refused by file, row and column."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from diet_ray.config import from_mapping
from diet_ray.data.rows import LABEL, TIMESTAMP, check_columns, normalise
from diet_ray.data.schema import Schema
from diet_ray.errors import DataError

US = 1_000_000


def schema(kind: str = "categorical", **timestamp: str) -> Schema:
    return from_mapping(
        Schema,
        {
            "timestamp": {"column": "t", **timestamp},
            "label": {"column": "y"},
            "fields": [{"name": "x", "kind": kind}],
        },
        "schema",
    )


def normalised(kind: str = "categorical", text: bool = False, **columns: object) -> pa.Table:
    n = len(columns["x"] if "x" in columns else next(iter(columns.values())))  # type: ignore[arg-type]
    table = pa.table({"t": ["1"] * n if text else [1] * n, "y": ["1"] * n if text else [1] * n,
                      "x": ["1"] * n} | columns)  # fmt: skip
    return normalise(table, schema(kind), file="a.parquet", first_row=40, text=text)


def timestamps(values: object, *, text: bool = False, **config: str) -> list[int]:
    column = values if isinstance(values, pa.Array) else pa.array(values)
    n = len(column)
    table = pa.table({"t": column, "y": ["1"] * n if text else [1] * n, "x": ["a"] * n})
    rows = normalise(table, schema(**config), file="a.parquet", first_row=40, text=text)
    assert rows[TIMESTAMP].type == pa.int64()
    return rows[TIMESTAMP].to_pylist()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([1, None], pa.int16()), [1, None]),
        (pa.array([2**63], pa.uint64()), [str(2**63)]),
        (pa.array(["a", "", None]), ["a", None, None]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array([2.0, math.nan, None]), ["2", None, None]),
        (pa.array([date(2022, 4, 8)]), ["2022-04-08"]),
        (pa.nulls(2), [None, None]),
        (pa.array(np.array([1.0, 0.5, np.nan], np.float16)), ["1", "0.5", None]),
        (
            pa.array([Decimal("120"), Decimal("-1.5"), None], pa.decimal128(12, 4)),
            ["120", "-1.5", None],
        ),
        (pa.array([Decimal("120")], pa.decimal128(12, 0)), ["120"]),
    ],
)
def test_categorical_columns_become_int64_or_text(values: pa.Array, expected: list) -> None:
    assert normalised(x=values)["x"].to_pylist() == expected


@pytest.mark.parametrize(
    ("values", "text", "expected"),
    [
        (pa.array([1, None, -3]), False, [1, math.nan, -3]),
        (pa.array([2**60 + 1]), False, [2.0**60]),
        (pa.array([1.5, math.inf, -math.inf, math.nan], pa.float32()), False,
         [1.5, math.nan, math.nan, math.nan]),
        (pa.array([True, False, None]), False, [1, 0, math.nan]),
        (pa.array([Decimal("1.25")]), False, [1.25]),
        (pa.array([" 1.5", "nan", "NULL", None, "-inf", "1e3"]), True,
         [1.5, math.nan, math.nan, math.nan, math.nan, 1000]),
    ],
)  # fmt: skip
def test_numeric_columns_become_floats_with_nan_for_missing(
    values: pa.Array, text: bool, expected: list[float]
) -> None:
    found = normalised("numeric", text, x=values)["x"]
    assert found.type == pa.float64()
    np.testing.assert_array_equal(found.to_numpy(), expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([[1, 2], None, []]), [[1, 2], [], []]),
        (pa.array([["a", None, ""], ["b"]]), [["a", None, None], ["b"]]),
        (pa.array(["a| b|c", "", None, "d"]), [["a", "b", "c"], [], [], ["d"]]),
        (pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int32(), 2)), [[1, 2], [], [3, 4]]),
        (pa.array([["a"], ["b", "c"]], pa.large_list(pa.string())), [["a"], ["b", "c"]]),
        (pa.array([["zz"], ["a"], [], ["b", "c"]])[1:], [["a"], [], ["b", "c"]]),
    ],
)
def test_sequences_come_from_lists_and_from_text(values: pa.Array, expected: list) -> None:
    assert normalised("sequence", x=values)["x"].to_pylist() == expected


def test_labels_are_zero_or_one() -> None:
    for values in ([1, 0], [1.0, 0.0], [True, False]):
        assert normalised(y=values, x=["a", "a"])[LABEL].to_pylist() == [1.0, 0.0]
    found = normalised(text=True, y=["1", "0", "True", "false", "1.0"], x=["a"] * 5)[LABEL]
    assert found.to_pylist() == [1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("value", "says"),
    [(None, "missing"), (math.nan, "missing"), (math.inf, "inf"), (2.0, "2"), (0.5, "0.5")],
)
def test_a_label_that_is_not_binary_is_refused_by_row(value: float | None, says: str) -> None:
    with pytest.raises(DataError) as e:
        normalised(y=pa.array([0.0, 1.0, value]), x=["a"] * 3)
    assert str(e.value) == (
        f"a.parquet: row 43, column `y`: the label must be 0 or 1 but is {says}; drop or mend the "
        "row"
    )


@pytest.mark.parametrize(
    ("unit", "value", "expected"),
    [("s", 5, 5 * US), ("ms", 5, 5000), ("us", 5, 5), ("ns", 5999, 5), ("s", -1, -US)],
)
def test_numbers_are_timestamps_in_the_unit_of_the_schema(
    unit: str, value: int, expected: int
) -> None:
    assert timestamps([value], unit=unit) == [expected]
    assert timestamps([float(value)], unit=unit)[0] == pytest.approx(expected, abs=1)
    assert timestamps([str(value)], text=True, unit=unit) == [expected]


def test_arrow_timestamps_and_iso_text_are_read_in_the_right_zone() -> None:
    instant = datetime(2022, 4, 8, 16, 0, 1, tzinfo=UTC)
    expected = [int(instant.timestamp()) * US]
    beijing = instant.astimezone(timezone(timedelta(hours=8)))
    naive = beijing.replace(tzinfo=None)
    zone = {"timezone": "Asia/Shanghai"}
    assert timestamps(pa.array([instant], pa.timestamp("ms", "UTC"))) == expected
    assert timestamps(pa.array([instant], pa.timestamp("ns", "America/New_York"))) == expected
    assert timestamps(pa.array([naive], pa.timestamp("s")), **zone) == expected
    assert timestamps(["2022-04-09 00:00:01"], **zone) == expected
    assert timestamps(["2022-04-09T00:00:01.000"], **zone) == expected
    assert timestamps([beijing.isoformat()]) == expected
    assert timestamps(["2022-04-08T16:00:01Z"], text=True, **zone) == expected
    assert timestamps([date(1970, 1, 2)], **zone) == [16 * 3600 * US]
    # A clock hour that doesn't exist still is an instant.
    assert timestamps(["2022-03-27 02:30:00"], timezone="Europe/Berlin") == [1648342800 * US]


@pytest.mark.parametrize(
    ("values", "text", "says"),
    [
        ([1, None, 3], False, "row 42, column `t`: the timestamp is missing"),
        ([1.0, math.nan], False, "row 42, column `t`: the timestamp is NaN or infinite"),
        ([1, 10**15], False, "row 42, column `t`: the timestamp lies outside the years"),
        ([1, 2**62], False, "row 42, column `t`: the timestamp lies outside the years"),
        ([1.0, 1e300], False, "row 42, column `t`: the timestamp lies outside the years"),
        (["yesterday"], False, "row 41, column `t`: 'yesterday' is no timestamp"),
        (["2022-04-09", "2022-04-10", "soon"], True, "row 43, column `t`: 'soon' is no timestamp"),
        (["1", "2", "3", "2022-04-10"], True, "row 44, column `t`: '2022-04-10' is no timestamp"),
        ([[1]], False, "column `t`: a timestamp can't be read from type list"),
    ],
)
def test_a_timestamp_that_cannot_be_read_is_refused_by_row(
    values: list, text: bool, says: str
) -> None:
    with pytest.raises(DataError, match=r"^a\.parquet: ") as e:
        timestamps(values, text=text)
    assert says in str(e.value)


def test_text_may_mix_whole_numbers_and_fractions() -> None:
    assert timestamps(["1", "2.5"], text=True) == [US, 2_500_000]


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        ("numeric", ["1"], "column `x`: a number is expected but the column's type is string"),
        ("numeric", [[1]], "column `x`: a number is expected but the column's type is list"),
        ("categorical", [[1]], "column `x`: a categorical field can't be read from type list"),
        ("categorical", [b"a"], "column `x`: a categorical field can't be read from type binary"),
        ("sequence", [1], "column `x`: a sequence must be a list or text, not int64"),
        ("sequence", [[[1]]], "column `x`: a categorical field can't be read from type list"),
    ],
)
def test_a_wrong_type_is_refused_by_column(kind: str, values: list, says: str) -> None:
    with pytest.raises(DataError, match=r"^a\.parquet: ") as e:
        normalised(kind, x=pa.array(values))
    assert says in str(e.value)


def test_text_that_is_no_number_is_refused_by_row() -> None:
    with pytest.raises(DataError, match=r"^a.parquet: row 43, column `x`: 'cheap' is no number$"):
        normalised("numeric", True, x=["1", "2", "cheap", "dear"])
    with pytest.raises(DataError, match="row 42, column `y`: 'yes' is no number"):
        normalised(text=True, y=["1", "yes"], x=["a", "a"])


def test_missing_and_duplicate_columns_are_named() -> None:
    check_columns(["x", "y", "z"], ["y", "x"], "f")
    with pytest.raises(DataError, match=r"^f: no column `w`, which the schema names; it has x, y$"):
        check_columns(["x", "y"], ["x", "w"], "f")
    with pytest.raises(DataError, match=r"^f: column `x` is there 2 times"):
        check_columns(["x", "y", "x"], ["x"], "f")


def test_a_timestamp_beyond_all_range_is_refused_by_row() -> None:
    values = pa.array([1, 2**63], pa.uint64())
    with pytest.raises(DataError, match="row 42"):
        timestamps(values, unit="us")
