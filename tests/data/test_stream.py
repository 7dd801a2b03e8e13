"""Reading in parallel gives what reading one after the other gives, errors included."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diet_ray.config import from_mapping
from diet_ray.data.schema import Schema
from diet_ray.data.sources.base import Source, read_serially
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.sources.open import open_source
from diet_ray.data.stream import read_in_order
from diet_ray.errors import DataError

pytestmark = pytest.mark.usefixtures("ray_cluster")

SCHEMA = from_mapping(
    Schema,
    {
        "timestamp": {"column": "time"},
        "label": {"column": "click"},
        "fields": [
            {"name": "item", "kind": "categorical"},
            {"name": "price", "kind": "numeric"},
            {"name": "tags", "kind": "sequence"},
        ],
    },
    "schema",
)


def log(folder: Path, sizes: list[int], bad_row: tuple[int, int] | None = None) -> Source:
    """Files of `sizes` rows; with `bad_row`, row [1] of file [0] has no valid label."""
    first = 0
    for i, size in enumerate(sizes):
        row = np.arange(first, first + size)
        click = row % 2
        if bad_row is not None and bad_row[0] == i:
            click[bad_row[1]] = 2
        tags = pa.array([None if r % 3 else [f"t{r}"] for r in row], pa.list_(pa.string()))
        columns = {"time": row, "click": click, "item": row, "price": row * 0.5, "tags": tags}
        pq.write_table(pa.table(columns), folder / f"part-{i}.parquet")
        first += size
    return open_source(SourceConfig(paths=(str(folder),)), SCHEMA, folder)


def test_rows_arrive_in_order_though_later_shards_are_done_first(tmp_path: Path) -> None:
    source = log(tmp_path, [150_000, 3, 1, 70_000, *[5] * 9])
    found = list(read_in_order(source))
    assert pa.concat_tables(found).equals(pa.concat_tables(read_serially(source)))
    # Blocks stay the source's own, hence small.
    assert [t.num_rows for t in found] == [t.num_rows for t in read_serially(source)]


def test_an_error_arrives_as_it_was_raised_after_the_rows_before_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    source = log(tmp_path, [40, 20, 30], bad_row=(1, 6))
    tables = read_in_order(source)
    with caplog.at_level(logging.WARNING):
        assert next(tables).num_rows == 40
        with pytest.raises(DataError) as e:
            next(tables)
    with pytest.raises(DataError) as serial:
        list(read_serially(source))
    assert type(e.value) is DataError
    assert str(e.value) == str(serial.value)
    assert str(e.value).startswith(f"{tmp_path}/part-1.parquet: row 7, column `click`: ")
    assert e.value.__cause__ is None
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())


def test_the_first_error_in_order_is_the_one_that_is_raised(tmp_path: Path) -> None:
    source = log(tmp_path, [200_000, 5], bad_row=(0, 199_999))
    path = tmp_path / "part-1.parquet"
    path.write_bytes(path.read_bytes()[:50])
    tables = read_in_order(source)
    assert next(tables).num_rows == 65_536
    with pytest.raises(DataError, match=r"part-0.parquet: row 200000, column `click`"):
        list(tables)


def test_reading_can_stop_early(tmp_path: Path) -> None:
    source = log(tmp_path, [10] * 20)
    with contextlib.closing(read_in_order(source)) as tables:
        assert next(tables).num_rows == 10
    assert sum(t.num_rows for t in read_in_order(source)) == 200
