from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from diet_ray.errors import DataError
from tests.data.sources.public.prepared import encoded, prepared, write

HEADER = (
    "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,app_category,"
    "device_id,device_ip,device_model,device_type,device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21"
)
REST = (
    "1005,0,1fbe01fe,f3845767,28905ebd,ecad2386,7801e8d9,07d7df22,a99f214a,ddd2926e,44956a24,1,2,"
    "15706,320,50,1722,0,35,-1,79"
)


def line(number: int, click: int, hour: str) -> str:
    return f"{10**18 + number},{click},{hour},{REST}"


def test_the_hour_is_utc_and_the_id_is_left_out(tmp_path: Path) -> None:
    raw = tmp_path / "train.gz"
    rows = [line(1, 0, "14102100"), line(2, 1, "14102523"), line(3, 1, "14103099")]
    raw.write_bytes(gzip.compress("\n".join([HEADER, *rows, ""]).encode()))
    log = prepared(raw, tmp_path / "out")
    assert [r["time"].isoformat() for r in log.rows] == [
        "2014-10-21T00:00:00+00:00", "2014-10-25T23:00:00+00:00",
    ]  # fmt: skip
    assert log.made.dropped == {"rows whose hour is no YYMMDDHH": 1}
    assert log.column("hour") == [0, 23]
    # A Tuesday and a Saturday.
    assert log.column("weekday") == [1, 5]
    assert log.column("is_weekend") == [0, 1]
    assert "id" not in log.table.column_names
    # Codes, though they are numbers.
    assert {f.kind for f in log.schema.fields} == {"categorical"}
    assert log.column("C20") == [-1, -1]
    assert log.column("device_id") == ["a99f214a"] * 2


def test_rows_of_an_hour_keep_the_order_of_the_file(tmp_path: Path) -> None:
    clicks = [random.Random(0).randint(0, 1) for _ in range(60)]
    rows = (line(i, c, "14102105" if i % 2 else "14102104") for i, c in enumerate(clicks))
    log = prepared(write(tmp_path / "raw", HEADER, *rows), tmp_path / "out")
    assert log.column("label") == clicks[0::2] + clicks[1::2]


def test_the_contest_has_no_labels(tmp_path: Path) -> None:
    raw = write(tmp_path / "test", HEADER.replace("click,", ""), f"1,14103100,{REST}")
    with pytest.raises(DataError, match="unlabelled: Kaggle's test file has no labels"):
        prepared(raw, tmp_path / "out", "avazu")


@pytest.mark.usefixtures("ray_cluster")
def test_the_log_can_be_encoded(tmp_path: Path) -> None:
    draw = random.Random(0)
    rows = (line(i, draw.randint(0, 1), f"1410{21 + i // 40}{i % 24:02d}") for i in range(400))
    log = prepared(write(tmp_path / "raw", HEADER, *rows), tmp_path / "out")
    ready = encoded(log, tmp_path / "log")
    assert ready.num_test_rows == log.made.num_test_rows == 40
    assert [s.role for s in ready.stages] == ["train"] * 9 + ["test"]
