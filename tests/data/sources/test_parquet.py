from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diet_ray.data.rows import TIMESTAMP, normalise
from diet_ray.data.sources import parquet
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.sources.parquet import ParquetSource
from diet_ray.errors import DataError
from tests.data.click_log import SCHEMA, click_rows, replaced, write_log


def opened(*paths: str | Path) -> ParquetSource:
    return ParquetSource.open(SourceConfig(paths=tuple(map(str, paths))), SCHEMA)


def read(source: ParquetSource) -> pa.Table:
    return pa.concat_tables([t for s in source.shards for t in source.read(s)])


@pytest.fixture
def rows() -> pa.Table:
    return click_rows()


def test_shards_are_runs_of_row_groups_and_give_all_rows(
    tmp_path: Path, rows: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "SHARD_ROWS", 150)
    monkeypatch.setattr(parquet, "BATCH_ROWS", 33)
    paths = write_log(tmp_path, rows, cuts=(300,))
    source = opened(*paths)
    assert [(s.file, s.first_row, s.num_rows, s.first_row_group, s.num_row_groups)
            for s in source.shards] == [
        (paths[0], 0, 140, 0, 2), (paths[0], 140, 140, 2, 2), (paths[0], 280, 20, 4, 1),
        (paths[1], 0, 140, 0, 2), (paths[1], 140, 140, 2, 2), (paths[1], 280, 20, 4, 1),
    ]  # fmt: skip
    expected = normalise(rows, SCHEMA, file="", first_row=0)
    found = read(source)
    assert found.schema == expected.schema
    assert found.to_pydict().__repr__() == expected.to_pydict().__repr__()
    assert "unused" not in found.column_names


def test_columns_may_come_in_any_order(tmp_path: Path, rows: pa.Table) -> None:
    pq.write_table(rows, tmp_path / "a.parquet")
    pq.write_table(rows.select(rows.column_names[::-1]), tmp_path / "b.parquet")
    assert read(opened(tmp_path / "a.parquet", tmp_path / "b.parquet")).num_rows == 1200


def test_a_missing_column_is_named(tmp_path: Path, rows: pa.Table) -> None:
    write_log(tmp_path, rows.drop_columns(["price"]))
    with pytest.raises(DataError, match=r"part-0.parquet: no column `price`"):
        opened(tmp_path)


def test_a_duplicate_column_is_named(tmp_path: Path, rows: pa.Table) -> None:
    pq.write_table(rows.append_column("item", rows["item"]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a.parquet: column `item` is there 2 times"):
        opened(tmp_path)


def test_files_of_different_types_are_named(tmp_path: Path, rows: pa.Table) -> None:
    pq.write_table(rows, tmp_path / "a.parquet")
    other = rows.set_column(3, "item", rows["item"].cast(pa.string()))
    pq.write_table(other, tmp_path / "b.parquet")
    with pytest.raises(DataError) as e:
        opened(tmp_path)
    assert str(e.value) == (
        f"{tmp_path}/b.parquet: column `item` is string but int64 in {tmp_path}/a.parquet; all "
        "files must have the same types"
    )


def test_a_file_without_rows_is_named(tmp_path: Path, rows: pa.Table) -> None:
    write_log(tmp_path, rows)
    pq.write_table(rows.slice(0, 0), tmp_path / "zero.parquet")
    with pytest.raises(DataError, match=r"zero.parquet: holds no rows; remove it"):
        opened(tmp_path)


@pytest.mark.parametrize("size", [0, 3, -1, -200])
def test_a_truncated_file_is_named(tmp_path: Path, rows: pa.Table, size: int) -> None:
    (path,) = write_log(tmp_path, rows)
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[:size])
    with pytest.raises(
        DataError, match=r"part-0.parquet: can't be read: .* is no Parquet file"
    ) as e:
        opened(path)
    assert "\n" not in str(e.value)


def test_a_damaged_page_is_named_by_file_and_row(
    tmp_path: Path, rows: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "BATCH_ROWS", 70)
    (path,) = write_log(tmp_path, rows)
    content = bytearray(Path(path).read_bytes())
    group = pq.ParquetFile(path).metadata.row_group(3).column(0)
    start = group.dictionary_page_offset or group.data_page_offset
    content[start : start + group.total_compressed_size] = b"\xff" * group.total_compressed_size
    Path(path).write_bytes(content)
    with pytest.raises(DataError, match=r"part-0.parquet: after row 210: can't be read: ") as e:
        read(opened(path))
    assert "\n" not in str(e.value)


def test_a_bad_value_is_named_by_its_row_in_the_file(tmp_path: Path, rows: pa.Table) -> None:
    write_log(tmp_path, replaced(rows, "click", 400, 3), cuts=(150,))
    with pytest.raises(DataError, match=r"part-1.parquet: row 251, column `click`: the label must"):
        read(opened(tmp_path))


def test_rows_hold_the_log_time(tmp_path: Path, rows: pa.Table) -> None:
    write_log(tmp_path, rows)
    found = read(opened(tmp_path))[TIMESTAMP].to_pylist()
    assert found == [t * 1_000_000 for t in rows["time"].to_pylist()]
