"""KuaiRand's raw files: excerpts of the real feature files, joined with a made-up log."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from diet_ray.config import from_mapping
from diet_ray.data.external_sort import sort_by_time
from diet_ray.data.rows import LABEL, TIMESTAMP
from diet_ray.data.schema import Schema
from diet_ray.data.sources.base import Source, read_serially
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.sources.open import open_source
from diet_ray.errors import DataError

FILES = Path(__file__).parent.parent / "files" / "kuairand"
LOG = [
    "user_id", "video_id", "date", "hourmin", "time_ms", "is_click", "is_like", "is_follow",
    "is_comment", "is_forward", "is_hate", "long_view", "play_time_ms", "duration_ms",
    "profile_stay_time", "comment_stay_time", "is_profile_enter", "is_rand", "tab",
]  # fmt: skip


def schema(*fields: str, sequence: str | None = None, label: str = "long_view") -> Schema:
    plain = [{"name": f, "kind": "categorical"} for f in fields]
    lists = [{"name": sequence, "kind": "sequence"}] if sequence else []
    time = {"column": "time_ms", "unit": "ms", "timezone": "Asia/Shanghai"}
    return from_mapping(
        Schema,
        {"timestamp": time, "label": {"column": label}, "fields": plain + lists},
        "schema",
    )


JOINED = schema("user_id", "video_id", "fans_user_num_range", "author_id", "tab", sequence="tag")


def open_files(scratch: Path, schema: Schema, *paths: Path) -> Source:
    return open_source(SourceConfig(paths=tuple(map(str, paths))), schema, scratch)


def rows(source: Source) -> pd.DataFrame:
    return pd.concat([t.to_pandas() for t in read_serially(source)], ignore_index=True)


def copied(folder: Path) -> Path:
    return Path(shutil.copytree(FILES, folder / "data"))


def log_line(**values: object) -> str:
    return ",".join(str(values.get(c, 0)) for c in LOG) + "\n"


def test_log_rows_are_joined_with_both_feature_files(tmp_path: Path) -> None:
    found = rows(open_files(tmp_path, JOINED, FILES))
    logs = [pd.read_csv(f, dtype=str) for f in sorted(FILES.glob("log_standard_*.csv"))]
    users = pd.read_csv(FILES / "user_features_pure.csv", dtype=str)
    videos = pd.read_csv(FILES / "video_features_basic_pure.csv", dtype=str)
    expected = pd.concat(logs, ignore_index=True)
    expected = expected.merge(users, "left", "user_id").merge(videos, "left", "video_id")
    assert len(found) == len(expected) == 96
    for column in ("user_id", "video_id", "fans_user_num_range", "author_id", "tab"):
        assert found[column].fillna("-").tolist() == expected[column].fillna("-").tolist()
    assert found[TIMESTAMP].tolist() == (expected["time_ms"].astype(int) * 1000).tolist()
    assert found[LABEL].tolist() == expected["long_view"].astype(float).tolist()
    tags = [t.split(",") if isinstance(t, str) else [] for t in expected["tag"]]
    assert [list(t) for t in found["tag"]] == tags
    # The excerpts hold what makes these files easy to misread.
    assert "[100,1k)" in set(found["fans_user_num_range"])
    assert any(len(t) == 2 for t in tags)


def test_rows_are_to_be_sorted_across_files(tmp_path: Path) -> None:
    source = open_files(tmp_path, JOINED, FILES)
    assert source.sort
    times = rows(source)[TIMESTAMP].tolist()
    assert times != sorted(times)
    in_order = [t for b in sort_by_time(read_serially(source), tmp_path) for t in b[TIMESTAMP]]
    assert [t.as_py() for t in in_order] == sorted(times)


def test_random_exposure_joins_only_if_it_is_named(tmp_path: Path) -> None:
    (random,) = FILES.glob("log_random_*.csv")
    standard = sorted(FILES.glob("log_standard_*.csv"))
    with_random = schema("user_id", "is_rand")
    assert set(rows(open_files(tmp_path, with_random, FILES))["is_rand"]) == {"0"}
    both = rows(open_files(tmp_path, with_random, *standard, random))
    assert both["is_rand"].value_counts().to_dict() == {"0": 96, "1": 12}


def test_parts_and_editions_are_recognised(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    for old, new in (
        ("log_standard_4_08_to_4_21_pure", "log_standard_4_08_to_4_21_27k_part1"),
        ("log_standard_4_22_to_5_08_pure", "log_standard_4_08_to_4_21_27k_part2"),
        ("user_features_pure", "user_features_27k"),
        ("video_features_basic_pure", "video_features_basic_27k"),
    ):
        (folder / f"{old}.csv").rename(folder / f"{new}.csv")
    pd.testing.assert_frame_equal(
        rows(open_files(tmp_path, JOINED, folder)), rows(open_files(tmp_path, JOINED, FILES))
    )


def test_ids_without_features_have_missing_values(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    for old in folder.glob("log_*.csv"):
        old.unlink()
    lines = [{"video_id": 999_999, "user_id": 0}, {"video_id": 7, "user_id": 999_999}]
    (folder / "log_standard_pure.csv").write_text(
        ",".join(LOG) + "\n" + "".join(log_line(time_ms=1, **x) for x in lines)
    )
    found = rows(open_files(tmp_path, JOINED, folder))
    assert found["author_id"].fillna("-").tolist() == ["-", "7676925"]
    assert found["fans_user_num_range"].fillna("-").tolist() == ["[100,1k)", "-"]
    assert [list(t) for t in found["tag"]] == [[], ["20", "67"]]


def test_monthly_statistics_are_never_read(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "video_features_statistic_pure.csv").write_text("video_id,show_cnt\n7,12\n")
    assert len(rows(open_files(tmp_path, JOINED, folder))) == 96
    with pytest.raises(DataError, match=r"log_standard_.*: no column `show_cnt`"):
        open_files(tmp_path, schema("video_id", "show_cnt"), folder)


def test_a_column_of_a_feature_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "user_features_pure.csv").unlink()
    assert len(rows(open_files(tmp_path, schema("user_id", "author_id"), folder))) == 96
    with pytest.raises(DataError, match="no column `fans_user_num_range`"):
        open_files(tmp_path, JOINED, folder)


def test_without_a_log_the_folder_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    for log in folder.glob("log_standard_*.csv"):
        log.unlink()
    with pytest.raises(DataError, match="no log_standard_"):
        open_files(tmp_path, JOINED, folder)


def test_an_id_that_is_no_number_is_refused_by_file(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (path,) = folder.glob("log_standard_4_08*.csv")
    path.write_text(path.read_text() + log_line(user_id="someone", time_ms=1))
    with pytest.raises(DataError, match=r"4_08_to_4_21_pure.csv: column `user_id`: .*someone"):
        rows(open_files(tmp_path, JOINED, folder))


def test_a_source_never_sees_the_features_of_an_earlier_one(tmp_path: Path) -> None:
    """Both are made in one folder and read in one process, as for two days appended in turn."""
    folder = copied(tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    first = rows(open_files(scratch, JOINED, folder))
    shutil.rmtree(scratch)
    scratch.mkdir()
    path = folder / "video_features_basic_pure.csv"
    path.write_text(path.read_text().replace("7349781", "1234567"))
    second = rows(open_files(scratch, JOINED, folder))
    changed = first["author_id"] != second["author_id"]
    assert set(second["author_id"][changed].dropna()) == {"1234567"}
