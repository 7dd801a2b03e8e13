"""Tables of any columns: through files, and through Ray Data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from diet_ray.config import from_mapping
from diet_ray.data.raw.convert import convert
from diet_ray.data.raw.log import Options
from diet_ray.data.raw.tasks import InProcess
from diet_ray.data.schema import Schema
from diet_ray.data.sources.public.tables import open_table, write_as_parquet
from diet_ray.errors import ConfigError, DataError
from tests.data.sources.public.prepared import Prepared, write

SCHEMA = from_mapping(
    Schema,
    {
        "timestamp": {"column": "at", "timezone": "Asia/Shanghai"},
        "label": {"column": "y"},
        "fields": [
            {"name": "user", "kind": "categorical", "column": "u"},
            {"name": "price", "kind": "numeric"},
            {"name": "tags", "kind": "sequence", "separator": ";"},
            {"name": "seen", "kind": "sequence", "history_of": "user", "user": "user"},
        ],
    },
    "schema",
)
ROWS = [(1_700_000_300, 1, "b", "2.5", "x;y"), (1_700_000_000, 0, "a", "", "")]


def prepared_table(kind: str, raw: str, out: Path, **options: Any) -> Prepared:
    made = convert(
        lambda scratch: open_table(kind, raw, Options(schema=SCHEMA, **options), scratch),
        InProcess(), out, about="made",
    )  # fmt: skip
    return Prepared(out, made, (), ())


def csv(folder: Path) -> Path:
    return write(folder / "x.csv", "u,at,y,price,tags,more",
                 *(f"{u},{t},{y},{p},{g},?" for t, y, u, p, g in ROWS))  # fmt: skip


def test_rows_are_read_as_the_schema_says_and_sorted(tmp_path: Path) -> None:
    log = prepared_table("csv", str(csv(tmp_path)), tmp_path / "out")
    rows = log.rows
    assert [(r["label"], r["user"], r["tags"]) for r in rows] == [
        (0, "a", []),
        (1, "b", ["x", "y"]),
    ]
    assert rows[0]["price"] != rows[0]["price"]
    assert rows[1]["price"] == 2.5
    assert log.made.files == ("2023-11-15.parquet",)
    # What is written is read by the names of the fields.
    assert [f.source_column for f in log.schema.fields] == ["user", "price", "tags", "seen"]
    assert log.schema.timestamp.timezone == "Asia/Shanghai"


@pytest.mark.usefixtures("ray_cluster")
def test_a_delta_table_comes_through_ray_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray.data

    table = pa.table(
        {"at": [t for t, *_ in ROWS], "y": [y for _, y, *_ in ROWS], "u": ["b", "a"],
         "price": [2.5, None], "tags": [["x", "y"], []], "more": [1, 2]}
    )  # fmt: skip
    monkeypatch.setattr(ray.data, "read_delta", lambda path: ray.data.from_arrow(table))
    log = prepared_table("delta", "somewhere", tmp_path / "out")
    assert [(r["label"], r["user"], r["tags"]) for r in log.rows] == [
        (0, "a", []), (1, "b", ["x", "y"]),
    ]  # fmt: skip

    def lost(path: str) -> None:
        raise FileNotFoundError("nothing there")

    monkeypatch.setattr(ray.data, "read_delta", lost)
    with pytest.raises(DataError, match="somewhere: can't be read as delta: nothing there"):
        write_as_parquet("delta", "somewhere", SCHEMA, tmp_path)

    def missing(path: str) -> None:
        raise ImportError("No module named 'deltalake'")

    monkeypatch.setattr(ray.data, "read_delta", missing)
    with pytest.raises(ConfigError, match="delta: No module named 'deltalake'; install it"):
        write_as_parquet("delta", "somewhere", SCHEMA, tmp_path)


@pytest.mark.usefixtures("ray_cluster")
def test_a_real_delta_table(tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    folder = str(tmp_path / "table")
    for t, y, u, p, g in ROWS:
        row = {"at": [t], "y": [y], "u": [u], "price": [float(p or 0)], "tags": [g]}
        deltalake.write_deltalake(folder, pa.table(row), mode="append")
    log = prepared_table("delta", folder, tmp_path / "out")
    assert [r["user"] for r in log.rows] == ["a", "b"]


@pytest.mark.usefixtures("ray_cluster")
def test_a_real_iceberg_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyiceberg")
    pytest.importorskip("sqlalchemy", reason="the catalogue is a SQLite file")
    # Pyiceberg reads its configuration when it is imported.
    monkeypatch.setenv("PYICEBERG_CATALOG__DEFAULT__URI", f"sqlite:///{tmp_path}/catalogue.db")
    monkeypatch.setenv("PYICEBERG_CATALOG__DEFAULT__WAREHOUSE", f"file://{tmp_path}/warehouse")
    from pyiceberg.catalog import load_catalog

    rows = pa.table(
        {"at": [t for t, *_ in ROWS], "y": [y for _, y, *_ in ROWS], "u": ["b", "a"],
         "price": [2.5, None], "tags": [["x", "y"], []], "more": [1, 2]}
    )  # fmt: skip
    catalogue = load_catalog()
    catalogue.create_namespace("shop")
    table = catalogue.create_table("shop.clicks", schema=rows.schema)
    for i in range(len(rows)):
        table.append(rows.slice(i, 1))
    log = prepared_table("iceberg", "shop.clicks", tmp_path / "out")
    assert [(r["label"], r["user"], r["tags"]) for r in log.rows] == [
        (0, "a", []), (1, "b", ["x", "y"]),
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"shop\.lost: can't be read as iceberg: .*shop\.lost"):
        write_as_parquet("iceberg", "shop.lost", SCHEMA, tmp_path)


def test_what_does_not_go_with_a_table_is_refused(tmp_path: Path) -> None:
    raw = str(csv(tmp_path))
    with pytest.raises(ConfigError, match="--label: the schema file names"):
        prepared_table("csv", raw, tmp_path / "out", label="y")
    with pytest.raises(ConfigError, match="--negatives"):
        prepared_table("csv", raw, tmp_path / "out", negatives=1)
    write(tmp_path / "x.csv", "u,at,y,price,tags", "a,1700000000,2,1,")
    with pytest.raises(DataError, match=r"x\.csv: row 1, column `y`: the label must be 0 or 1"):
        prepared_table("csv", raw, tmp_path / "out")
