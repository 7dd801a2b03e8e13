from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from diet_ray.config import from_mapping
from diet_ray.data.schema import Schema
from diet_ray.data.sources import csv
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.sources.csv import CsvSource
from diet_ray.errors import DataError

SCHEMA = from_mapping(
    Schema,
    {
        "timestamp": {"column": "time"},
        "label": {"column": "click"},
        "fields": [
            {"name": "user", "kind": "categorical"},
            {"name": "price", "kind": "numeric"},
            {"name": "tags", "kind": "sequence"},
        ],
    },
    "schema",
)
HEADER = "user,other,price,click,tags,time\n"
ROWS = 'u1,?,1.5,1,a|b,10\n"u,2",?,,0,,11\n007,"new\nline",nan,1,c,12\n'
EXPECTED = {
    "_timestamp": [10_000_000, 11_000_000, 12_000_000],
    "_label": [1.0, 0.0, 1.0],
    "user": ["u1", "u,2", "007"],
    "price": [1.5, None, None],
    "tags": [["a", "b"], [], ["c"]],
}


def opened(
    tmp_path: Path, content: str | bytes, name: str = "log.csv", **config: object
) -> CsvSource:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    source = from_mapping(SourceConfig, {"paths": [str(path)], **config}, "source")
    return CsvSource.open(source, SCHEMA)


def read(source: CsvSource) -> dict:
    table = pa.concat_tables([t for s in source.shards for t in source.read(s)])
    columns = table.to_pydict()
    columns["price"] = [None if p != p else p for p in columns["price"]]
    return columns


def test_only_the_columns_of_the_schema_are_read_as_it_says(tmp_path: Path) -> None:
    source = opened(tmp_path, HEADER + ROWS)
    assert [(s.first_row, s.num_rows) for s in source.shards] == [(0, 3)]
    assert read(source) == EXPECTED


def test_other_forms_of_the_same_file(tmp_path: Path) -> None:
    crlf = (HEADER + ROWS).replace("\n", "\r\n").replace("new\r\nline", "new\nline")
    semicolons = (HEADER + ROWS).replace(",", ";").replace("u;2", "u,2")
    names = HEADER.strip().split(",")
    for content, name, config in (
        (crlf, "crlf.csv", {}),
        ("\ufeff" + HEADER + ROWS, "bom.csv", {}),
        (HEADER.replace("time\n", "time \n") + ROWS, "space.csv", {}),
        (gzip.compress((HEADER + ROWS).encode()), "log.csv.gz", {}),
        (semicolons, "semicolons.csv", {"delimiter": ";"}),
        (ROWS, "bare.csv", {"column_names": names}),
    ):
        assert read(opened(tmp_path, content, name, **config)) == EXPECTED, name


def test_a_file_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv, "BLOCK_BYTES", 200)
    rows = "".join(f"u{i},?,{i},{i % 2},a,{i}\n" for i in range(500))
    source = opened(tmp_path, HEADER + rows)
    assert source.shards[0].num_rows == 500
    blocks = list(source.read(source.shards[0]))
    assert len(blocks) > 10
    assert [u for b in blocks for u in b["user"].to_pylist()] == [f"u{i}" for i in range(500)]
    with pytest.raises(DataError, match=r"log.csv: row 401, column `click`: the label must be 0"):
        read(opened(tmp_path, HEADER + rows.replace("u400,?,400,0", "u400,?,400,2")))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "log.csv: is empty"),
        (HEADER, "log.csv: holds no rows"),
        (HEADER.replace("price", "cost") + ROWS, "log.csv: no column `price`"),
        (HEADER.replace("other", "user") + ROWS, "log.csv: column `user` is there 2 times"),
        (HEADER + ROWS + "u1,1\n", "row 4: 2 columns where 6 are expected; check `delim"),
        (HEADER + ROWS.replace(",11", ",later"), "row 2, column `time`: 'later' is no timestamp"),
        (HEADER + ROWS.replace("1.5", "free"), "row 1, column `price`: 'free' is no number"),
        (HEADER + ROWS.replace("?,,0", "?,,"), "row 2, column `click`: the label must be 0 or 1"),
        (HEADER + ROWS.replace(",12", ","), "row 3, column `time`: the timestamp is missing"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, content: str, says: str) -> None:
    with pytest.raises(DataError, match=says) as e:
        read(opened(tmp_path, content))
    assert "\n" not in str(e.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        CsvSource.open(SourceConfig(paths=(str(tmp_path / "none.csv"),)), SCHEMA)
