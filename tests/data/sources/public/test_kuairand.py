"""KuaiRand: excerpts of the real feature files with a made-up log, and its traps."""

from __future__ import annotations

import csv
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from diet_ray.data.sources.public import known
from diet_ray.errors import ConfigError, DataError
from tests.data.sources.public.prepared import encoded, prepared, write

FILES = Path(__file__).parents[2] / "files" / "kuairand"
LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,"
    "long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,"
    "tab"
)
BASIC = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,"
    "server_height,music_id,music_type,tag"
)


def log_line(**values: Any) -> str:
    defaults = {"time_ms": 1649408076860, "hourmin": 1600, "duration_ms": 87433, "tab": 1}
    return ",".join(str((defaults | values).get(c, 0)) for c in LOG.split(","))


def raw_rows() -> list[dict[str, str]]:
    rows = []
    for file in sorted(FILES.glob("log_standard_*.csv")):
        rows += list(csv.DictReader(file.open()))
    return sorted(rows, key=lambda r: int(r["time_ms"]))


def by_id(name: str, key: str) -> dict[str, dict[str, str]]:
    return {r[key]: r for r in csv.DictReader((FILES / name).open())}


def test_rows_are_joined_with_both_feature_files_in_time_order(tmp_path: Path) -> None:
    log = prepared(FILES, tmp_path / "out")
    users = by_id("user_features_pure.csv", "user_id")
    videos = by_id("video_features_basic_pure.csv", "video_id")
    raw = raw_rows()
    assert log.made.num_rows == len(raw) == 96
    missing = {"", "-124", "UNKNOWN"}
    for row, expected in zip(log.rows, raw, strict=True):
        assert row["time"].timestamp() * 1000 == pytest.approx(int(expected["time_ms"]), abs=1)
        assert row["label"] == int(expected["is_click"])
        for name in ("user_id", "video_id", "hourmin", "tab", "duration_ms"):
            assert row[name] == int(expected[name])
        user, video = users.get(expected["user_id"], {}), videos.get(expected["video_id"], {})
        for name in ("fans_user_num_range", "is_live_streamer", "onehot_feat3", "onehot_feat17"):
            value = user.get(name, "")
            assert row[name] == (None if value in missing else value)
        for name in ("video_type", "music_type", "tag"):
            value = video.get(name, "")
            assert row[name] == (None if value in missing else value)
        author = video.get("author_id", "")
        assert row["author_id"] == (int(author) if author else None)
        # A day is Beijing's: the log's own column says which one it is.
        when = date.fromisoformat(
            f"{expected['date'][:4]}-{expected['date'][4:6]}-{expected['date'][6:]}"
        )
        assert row["weekday"] == when.weekday()
        if video.get("upload_dt"):
            age = (when - date.fromisoformat(video["upload_dt"])).days
            assert row["video_age_days"] == max(0, age)
    # The excerpts hold what makes these files easy to misread.
    ranges = set(log.column("fans_user_num_range"))
    assert "[100,1k)" in ranges
    assert None in log.column("is_live_streamer")
    assert any("," in t for t in log.column("tag") if t)


def test_random_exposure_is_told_by_its_values(tmp_path: Path) -> None:
    raw = Path(shutil.copytree(FILES, tmp_path / "raw"))
    (random,) = raw.glob("log_random_*.csv")
    random.rename(raw / "log_standard_more.csv")
    log = prepared(raw, tmp_path / "out")
    assert log.made.dropped == {"rows of random exposure": 12}
    assert log.made.num_rows == 96


def test_files_are_recognised_by_header_in_every_edition(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    names = {
        "log_standard_4_08_to_4_21_pure.csv": "a.txt",
        "log_standard_4_22_to_5_08_pure.csv": "log_standard_4_22_to_5_08_27k_part2.csv",
        "user_features_pure.csv": "zzz",
        "video_features_basic_pure.csv": "video_features_basic_1k.csv",
    }
    for old, new in names.items():
        shutil.copy(FILES / old, raw / new)
    found = prepared(raw, tmp_path / "out").table
    assert found.equals(prepared(FILES, tmp_path / "plain").table)


def test_monthly_statistics_are_refused_and_captions_left_out(tmp_path: Path) -> None:
    raw = Path(shutil.copytree(FILES, tmp_path / "raw"))
    write(raw / "video_features_statistic_pure.csv", "video_id,counts,show_cnt", "7,1,12.5")
    write(raw / "kuairand_video_captions.csv", "final_video_id,caption", "7,hello")
    log = prepared(raw, tmp_path / "out")
    assert "show_cnt" not in log.table.column_names
    remarks = " ".join(log.remarks)
    assert "statistics, not read: averages over the whole month would leak the test days" in remarks
    assert "captions, not read" in remarks
    with pytest.raises(DataError, match="statistics: averages over the whole month would leak"):
        prepared(raw / "video_features_statistic_pure.csv", tmp_path / "x", "kuairand")


def test_categories_of_the_supplement_are_joined(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write(
        raw / "log.csv", LOG, *(log_line(video_id=i, time_ms=1649408076860 + i) for i in range(3))
    )
    write(
        raw / "kuairand_video_categories.csv",
        "final_video_id,first_level_category_id,first_level_category_name",
        "0,8,Food", "1,-124,UNKNOWN",
    )  # fmt: skip
    log = prepared(raw, tmp_path / "out")
    assert log.column("first_level_category_id") == ["8", None, None]
    assert "first_level_category_name" not in log.table.column_names


def test_empty_features_and_large_ids(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    ids = (31_999_999, 5, 77)
    write(raw / "log.csv", LOG, *(log_line(video_id=i, time_ms=1649408076860 + i) for i in ids))
    write(
        raw / "videos.csv", BASIC,
        '31999999,7349781,NORMAL,2022-04-10,LongImport,0.0,,720.0,1280.0,9155697141,,"12,65"',
        "5,,AD,,Kmovie,0.0,NaN,720.0,1280.0,,9.0,",
    )  # fmt: skip
    log = prepared(raw, tmp_path / "out")
    assert log.column("video_id") == [5, 77, 31_999_999]
    assert log.column("music_id") == [None, None, 9_155_697_141]
    assert log.column("tag") == [None, None, "12,65"]
    # Uploaded after the impression: no age, but no knowledge of the future either.
    assert log.column("video_age_days") == [None, None, 0]
    assert "no file of user features was found, so there are none" in log.notes


def test_labels(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write(raw / "log.csv", LOG, log_line(is_click=1), log_line(long_view=1))
    assert prepared(raw, tmp_path / "a").column("label") == [1, 0]
    assert prepared(raw, tmp_path / "b", label="long_view").column("label") == [0, 1]
    with pytest.raises(ConfigError, match=r"kuairand has is_click, .*not `play_time_ms`"):
        prepared(raw, tmp_path / "c", label="play_time_ms")
    with pytest.raises(ConfigError, match="rows of both classes"):
        prepared(raw, tmp_path / "c", negatives=1)
    # Nothing that belongs to the outcome is a field.
    outcomes = set(LOG.split(",")) - {"user_id", "video_id", "hourmin", "duration_ms", "tab"}
    assert not outcomes & {f.name for f in prepared(raw, tmp_path / "d").schema.fields}


def test_days_are_those_of_beijing_and_the_last_three_are_the_test(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    # 2022-04-20T20:16Z is 04:16 of the next day there.
    days = [1650485801301 + d * 86_400_000 for d in range(5)]
    write(raw / "log.csv", LOG, *(log_line(time_ms=t, is_click=i % 2) for i, t in enumerate(days)))
    log = prepared(raw, tmp_path / "out")
    assert log.made.files == tuple(f"2022-04-{d}.parquet" for d in range(21, 26))
    assert log.made.num_test_rows == 3
    assert log.schema.timestamp.timezone == "Asia/Shanghai"


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write(raw / "log.csv", LOG, log_line(), log_line(user_id="someone"))
    with pytest.raises(DataError, match=r"log.csv: after byte \d+: .*`user_id`.*someone"):
        prepared(raw, tmp_path / "out")
    write(raw / "log.csv", LOG, log_line(), log_line() + ",7")
    with pytest.raises(DataError, match=r"log.csv: .*20 columns where 19 are expected"):
        prepared(raw, tmp_path / "out")
    assert not list(tmp_path.glob(".out*"))
    assert not (tmp_path / "out").exists()


def test_documentation_names_what_is_published() -> None:
    about = known.adapter("kuairand").about
    for word in ("Label:", "Split:", "Features:", "History:", "Published", "LongCTR"):
        assert word in about


@pytest.mark.usefixtures("ray_cluster")
def test_the_log_can_be_encoded(tmp_path: Path) -> None:
    log = prepared(FILES, tmp_path / "out")
    ready = encoded(log, tmp_path / "log")
    assert ready.num_train_rows + ready.num_test_rows == 96
    assert ready.num_test_rows == log.made.num_test_rows == 20
    histories = ready.load(ready.test_stages).sequence
    assert (histories > 0).any()
