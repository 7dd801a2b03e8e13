from __future__ import annotations

import random
from pathlib import Path

import pytest

from diet_ray.errors import DataError
from tests.data.sources.public.prepared import encoded, prepared, write

SAMPLE = "user,time_stamp,adgroup_id,pid,nonclk,clk"
ADS = "adgroup_id,cate_id,campaign_id,customer,brand,price"
# The last name ends in a blank, as published.
PROFILE = (
    "userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,"
    "occupation,new_user_class_level "
)
START = 1_494_000_000


def files(folder: Path, *samples: str) -> Path:
    write(folder / "raw_sample.csv", SAMPLE, *samples)
    write(folder / "ad_feature.csv", ADS, "63133,6406,83237,1,95471,170.0", "1,6423,3,4,NULL,99.5")
    write(folder / "user_profile.csv", PROFILE, "234,0,5,2,5,,3,0,3", "581738,1,2,1,4,2,3,1,")
    return folder


def test_both_feature_files_are_joined_and_null_is_missing(tmp_path: Path) -> None:
    raw = files(
        tmp_path / "raw",
        "581738,1494137644,1,430548_1007,1,0",
        "234,1494137645,63133,430539_1007,0,1",
        "9,1494137646,77,430539_1007,1,0",
    )
    rows = prepared(raw, tmp_path / "out").rows
    assert [r["label"] for r in rows] == [0, 1, 0]
    assert [r["brand"] for r in rows] == [None, 95471, None]
    assert [r["customer"] for r in rows] == [4, 1, None]
    assert [r["price"] for r in rows] == [99.5, 170.0, None]
    assert [r["pvalue_level"] for r in rows] == [2, None, None]
    # Not all who see ads have a profile.
    assert [r["new_user_class_level"] for r in rows] == [None, 3, None]
    assert [r["cms_group_id"] for r in rows] == [2, 5, None]
    assert [r["pid"] for r in rows] == ["430548_1007", "430539_1007", "430539_1007"]


def test_rows_that_can_not_be_are_dropped(tmp_path: Path) -> None:
    raw = files(
        tmp_path / "raw",
        f"1,{START},1,430548_1007,1,0",
        f"1,{START},1,430548_1007,1,0",
        f"1,{START + 1},1,430548_1007,1,1",
        "1,-1494137644,1,430548_1007,1,0",
        f"1,{START - 1},1,430548_1007,1,0",
        f"1,{START + 8 * 86_400},1,430548_1007,1,0",
        f"1,{START + 8 * 86_400 - 1},1,430548_1007,0,1",
    )
    log = prepared(raw, tmp_path / "out")
    assert log.made.dropped == {
        "rows outside 2017-05-06 to 2017-05-13": 3,
        "rows both or neither clicked and not clicked": 1,
        "exact duplicates of another row": 1,
    }
    assert log.column("label") == [0, 1]


def test_the_last_local_day_is_the_test(tmp_path: Path) -> None:
    """1494032110 is 08:55 of 2017-05-06 in Beijing, and still the day before it in UTC at 00:55."""
    times = [1494032110, START, START + 86_399, START + 7 * 86_400, START + 7 * 86_400 + 3600]
    samples = (f"{i},{t},1,430548_1007,1,0" for i, t in enumerate(times))
    log = prepared(files(tmp_path / "raw", *samples), tmp_path / "out")
    assert log.made.files == ("2017-05-06.parquet", "2017-05-13.parquet")
    assert log.made.num_test_rows == 2
    assert log.column("hour") == [0, 8, 23, 0, 1]


def test_the_documented_name_of_the_negative_column_is_read_too(tmp_path: Path) -> None:
    raw = tmp_path / "raw_sample.csv"
    write(raw, SAMPLE.replace("nonclk", "noclk"), f"1,{START},1,430548_1007,1,0",
          f"1,{START + 1},1,430548_1007,1,1")  # fmt: skip
    log = prepared(raw, tmp_path / "out")
    assert log.made.num_rows == 1
    assert len(log.notes) == 2


def test_the_log_of_behaviours_is_named_and_left_out(tmp_path: Path) -> None:
    raw = files(tmp_path / "raw", f"1,{START},1,430548_1007,1,0")
    behaviours = write(
        raw / "behavior_log.csv",
        "user,time_stamp,btag,cate,brand",
        "558157,1493741625,pv,6250,91286",
    )
    assert "behaviours, not read: it names no items" in " ".join(
        prepared(raw, tmp_path / "out").remarks
    )
    with pytest.raises(DataError, match=r"behaviours: it names no items.*give raw_sample.csv"):
        prepared(behaviours, tmp_path / "x", "taobao-ads")


@pytest.mark.usefixtures("ray_cluster")
def test_the_log_can_be_encoded(tmp_path: Path) -> None:
    draw = random.Random(0)
    samples = []
    for i in range(400):
        clk = int(draw.random() < 0.3)
        time = START + i * 8 * 86_400 // 400
        samples.append(f"{i % 9},{time},{draw.choice([1, 63133])},430548_1007,{1 - clk},{clk}")
    log = prepared(files(tmp_path / "raw", *samples), tmp_path / "out")
    ready = encoded(log, tmp_path / "log")
    assert ready.num_test_rows == log.made.num_test_rows == 50
    assert [s.role for s in ready.stages] == ["train"] * 7 + ["test"]
