"""Four logs by one name, told apart by what their files begin with."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from diet_ray.data.sources.public import known
from diet_ray.errors import ConfigError, DataError
from tests.data.sources.public.prepared import encoded, prepared, write

IJCAI15 = "user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type"
IJCAI16 = "use_ID,sel_ID,ite_ID,cat_ID,act_ID,time_ID"
MOBILE = "user_id,item_id,behavior_type,user_geohash,item_category,time"


def times(log_rows: list[dict]) -> list[str]:
    return [r["time"].strftime("%Y-%m-%d %H:%M") for r in log_rows]


def test_ijcai15_months_without_a_year(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write(
        raw / "user_log_format1.csv", IJCAI15,
        "328862,323294,833,2882,2661,0829,0",
        "328862,844400,1271,2882,,829,2",
        "34176,1,2,3,4,1111,2",
        "34176,1,2,3,4,1111,2",
        "34176,1,2,3,4,0000,2",
    )  # fmt: skip
    write(raw / "info", "user_id,age_range,gender", "328862,6,0", "34176,0,2", "5,,")
    log = prepared(raw, tmp_path / "out", label="buy")
    # Midnight in Beijing is 16:00 of the day before in UTC.
    assert times(log.rows) == ["2014-08-28 16:00"] * 2 + ["2014-11-10 16:00"] * 2
    assert log.made.files == ("2014-08-29.parquet", "2014-11-11.parquet")
    assert log.column("label") == [0, 1, 1, 1]
    assert log.column("brand_id") == [2661, None, 4, 4]
    # Unknown age and gender have codes of their own in the file.
    assert log.column("age_range") == ["6", "6", None, None]
    assert log.column("gender") == ["0", "0", None, None]
    # Equal rows of a day are repeated actions, not mistakes.
    assert log.made.dropped == {"rows without a date": 1}
    assert "the IJCAI-15 log" in log.notes


def test_a_day_without_hours_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    raw = write(
        tmp_path / "raw.csv",
        IJCAI15,
        *(f"1,{i},1,1,1,0901,{2 * (i % 2)}" for i in range(50, 0, -1)),
    )
    log = prepared(raw, tmp_path / "out", label="buy")
    assert log.column("item_id") == list(range(50, 0, -1))
    assert "hour" not in {f.name for f in log.schema.fields}


@pytest.mark.parametrize("last", ["time_ID", "time"])
def test_ijcai16_is_read_by_position(tmp_path: Path, last: str) -> None:
    raw = write(
        tmp_path / "x.csv", IJCAI16.replace("time_ID", last),
        "100,7,2,3,0,20150826", "100,7,5,3,1,20150827",
    )  # fmt: skip
    log = prepared(raw, tmp_path / "out", label="buy")
    assert log.made.files == ("2015-08-26.parquet", "2015-08-27.parquet")
    assert [(r["seller_id"], r["item_id"], r["label"]) for r in log.rows] == [(7, 2, 0), (7, 5, 1)]
    assert "the IJCAI-16 log" in log.notes


def test_mobile_has_hours(tmp_path: Path) -> None:
    raw = write(
        tmp_path / "x.csv", MOBILE,
        "98047837,232431562,1,,4245,2014-12-06 02", "97726136,383583590,4,9qsk,5894,2014-12-09 20",
    )  # fmt: skip
    log = prepared(raw, tmp_path / "out", label="buy")
    assert times(log.rows) == ["2014-12-05 18:00", "2014-12-09 12:00"]
    assert log.column("hour") == [2, 20]
    assert log.column("label") == [0, 1]
    assert log.column("category_id") == [4245, 5894]
    assert "user_geohash" not in log.table.column_names
    items = write(tmp_path / "y.csv", "item_id,item_geohash,item_category", "100002303,,3368")
    with pytest.raises(DataError, match=r"contest items: .*give the file of events"):
        prepared(items, tmp_path / "z", "tmall")


def test_rec_tmall_with_and_without_a_header(tmp_path: Path) -> None:
    events = [("14863", "u", "click"), ("14863", "u", "collect"), ("9", "v", "alipay")]
    for name, separator, header in (("txt", "\x01", False), ("csv", ",", True)):
        raw = tmp_path / name
        rows = [
            separator.join((item, str(ord(user)), action, f"2014-05-0{i + 1} 18:0{i}:00"))
            for i, (item, user, action) in enumerate(events)
        ]
        first = [separator.join(("item_id", "user_id", "action", "vtime"))] if header else []
        write(raw / "log", *first, *rows)
        write(
            raw / "product",
            separator.join(("item_id", "title", "pict_url", "category", "brand_id", "seller_id")),
            separator.join(("14863", "连衣裙", "x.jpg", "50-3", "b1", "店1")),
            encoding="gb18030",
        )
        log = prepared(raw, tmp_path / f"out-{name}", label="buy")
        assert log.column("item_id") == [14863, 14863, 9]
        assert log.column("label") == [0, 0, 1]
        assert log.column("category") == ["50-3", "50-3", None]
        assert log.column("seller_id") == ["店1", "店1", None]
        assert times(log.rows)[0] == "2014-05-01 10:00"
        assert log.column("hour") == [18, 18, 18]
    reviews = write(tmp_path / "review", "item_id,user_id,feedback,gmt_create", "1,2,good,x")
    with pytest.raises(DataError, match="reviews: free text"):
        prepared(reviews, tmp_path / "z", "tmall")


def test_files_that_are_no_log_are_refused_by_name(tmp_path: Path) -> None:
    for header, says in (
        ("user_id,merchant_id,label", "shoppers: it labels shoppers, not events"),
        ("user_id,merchant_id,prob", "shoppers: it labels shoppers, not events"),
        (
            "user_id,age_range,gender,merchant_id,label,activity_log",
            "data_format2: the same events as IJCAI-15's data_format1",
        ),
    ):
        raw = write(tmp_path / "x.csv", header, "34176,3906,0")
        with pytest.raises(DataError, match=says):
            prepared(raw, tmp_path / "out", "tmall")


def test_two_logs_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path / "raw" / "a", IJCAI15, "1,1,1,1,1,0829,0")
    write(tmp_path / "raw" / "b", IJCAI16, "1,1,1,1,0,20150101")
    with pytest.raises(DataError, match="IJCAI-15 and IJCAI-16, which share no ids"):
        prepared(tmp_path / "raw", tmp_path / "out", label="buy")


def test_negatives_must_be_asked_for(tmp_path: Path) -> None:
    raw = write(tmp_path / "x.csv", IJCAI15, "1,1,1,1,1,0829,0", "1,2,1,1,1,0830,0")
    with pytest.raises(ConfigError, match="--negatives 1"):
        prepared(raw, tmp_path / "out")
    # A day's items aren't known on that day yet, so the first day has no negatives.
    log = prepared(raw, tmp_path / "out", negatives=1)
    assert [(r["item_id"], r["label"]) for r in log.rows] == [(1, 1), (2, 1), (1, 0)]


def test_every_variant_is_recognised_as_tmall(tmp_path: Path) -> None:
    for header, row in (
        (IJCAI15, "1,1,1,1,1,0829,0"), (IJCAI16, "1,1,1,1,0,20150101"),
        (MOBILE, "1,1,1,,1,2014-12-06 02"), ("item_id,user_id,action,vtime", "1,1,click,x"),
    ):  # fmt: skip
        raw = write(tmp_path / "some.name", header, row)
        assert known.recognise(known.starts_of(str(raw))).name == "tmall"


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("variant", ["ijcai15", "mobile"])
def test_the_log_can_be_encoded(tmp_path: Path, variant: str) -> None:
    draw = random.Random(0)
    rows = []
    for i in range(600):
        user, item = draw.randint(1, 20), draw.randint(1, 40)
        if variant == "ijcai15":
            rows.append(
                f"{user},{item},{item % 5},{item % 7},,{901 + i // 60},{draw.choice([0, 2])}"
            )
        else:
            hour = f"2014-11-{18 + i // 60} {i % 24:02d}"
            rows.append(f"{user},{item},{draw.choice([1, 4])},,{item % 5},{hour}")
    raw = write(tmp_path / "raw", IJCAI15 if variant == "ijcai15" else MOBILE, *rows)
    log = prepared(raw, tmp_path / "out", negatives=1)
    ready = encoded(log, tmp_path / "log")
    assert ready.num_train_rows + ready.num_test_rows == log.made.num_rows
    assert (ready.load(ready.test_stages).sequence > 0).any()
