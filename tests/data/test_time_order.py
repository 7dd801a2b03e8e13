from __future__ import annotations

import pyarrow as pa
import pytest

from diet_ray.data.intake import IntakeConfig
from diet_ray.data.rows import TIMESTAMP
from diet_ray.data.sources.base import RawShard
from diet_ray.data.time_order import check_order
from diet_ray.errors import DataError

SHARDS = (
    RawShard(file="a", first_row=0, num_rows=3),
    RawShard(file="a", first_row=3, num_rows=2),
    RawShard(file="b", first_row=0, num_rows=4),
)

IN_2100_US = 4_102_444_800_000_000


def checked(*tables: list[int], last_us: int | None = None) -> list[int]:
    parts = [pa.table({TIMESTAMP: pa.array(t, pa.int64())}) for t in tables]
    return [t for p in check_order(parts, SHARDS, last_us) for t in p[TIMESTAMP].to_pylist()]


def test_rows_that_do_not_decrease_pass() -> None:
    assert checked([1, 1, 2], [], [2, 5], [5], last_us=1) == [1, 1, 2, 2, 5, 5]


@pytest.mark.parametrize(
    ("tables", "where"),
    [
        (([1, 3, 2], [4, 5]), "a: row 3"),
        (([1, 3, 4], [4, 3]), "a: row 5"),
        (([1, 3], [4, 3], [9]), "a: row 4"),
        (([1, 3, 4, 5, 5], [4]), "b: row 1"),
        (([1, 3, 4, 5, 5, 6, 7, 6],), "b: row 3"),
    ],
)
def test_the_first_row_out_of_order_is_named(tables: tuple[list[int], ...], where: str) -> None:
    with pytest.raises(DataError, match=f"^{where}: .*aren't in time order.*`sort: true`"):
        checked(*tables)


def test_rows_older_than_the_log_are_refused_with_the_reason() -> None:
    with pytest.raises(DataError) as e:
        checked([1_500_000], last_us=2_000_000)
    assert str(e.value) == (
        "a: row 1: 1970-01-01 00:00:01.500000+00:00 is older than the log's last row "
        "(1970-01-01 00:00:02+00:00); only later rows can be appended: if these were added before, "
        "there is nothing to do; to add earlier ones prepare the log again"
    )


@pytest.mark.parametrize("tables", [([IN_2100_US, 1, 2, 3],), ([IN_2100_US], [1, 2, 3])])
def test_a_first_row_from_the_future_makes_no_other_late(tables: tuple[list[int], ...]) -> None:
    parts = [pa.table({TIMESTAMP: pa.array(t, pa.int64())}) for t in tables]
    config = IntakeConfig(max_dropped_share=0.5)
    kept = check_order(parts, (), None, config)
    with pytest.warns(UserWarning, match="0 late, 1 of the future"):
        assert [t for p in kept for t in p[TIMESTAMP].to_pylist()] == [1, 2, 3]
