from __future__ import annotations

from pathlib import Path

import pytest

from diet_ray.config import from_mapping
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.sources.files import expand, natural_order
from diet_ray.data.sources.open import infer_format
from diet_ray.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("day-10.parquet", "day-2.parquet", "note.txt", "_x.parquet", ".y.parquet",
                 "sub/day-3.PARQUET", "table.csv", "_temporary/0/day-4.parquet",
                 "sub/.ipynb_checkpoints/day-5.parquet"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(folder: Path, *paths: str) -> list[str]:
    found = expand([str(folder / p) if p else str(folder) for p in paths], (".parquet",))
    return [f.removeprefix(f"{folder}/") for f in found]


def test_folders_and_globs_come_in_natural_order(folder: Path) -> None:
    everything = ["day-2.parquet", "day-10.parquet", "sub/day-3.PARQUET"]
    assert names(folder, "") == everything
    assert names(folder, "day-*.parquet") == everything[:2]
    assert names(folder, "*/day-[0-9].*") == everything[2:]
    assert names(folder, "day-*") == everything[:2]
    assert names(folder, "**/day-*") == everything
    assert natural_order("a2") < natural_order("a10") < natural_order("b1")


@pytest.mark.parametrize("name", ["run [v2]/a.parquet", "clicks[1].parquet", "why?/b.parquet"])
def test_what_is_there_is_no_pattern(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    assert names(tmp_path, name) == [name]


def test_named_files_keep_the_order_given_and_count_once(folder: Path) -> None:
    assert names(folder, "day-10.parquet", "day-2.parquet", "day-*.parquet") == [
        "day-10.parquet", "day-2.parquet",
    ]  # fmt: skip
    assert names(folder, "table.csv") == ["table.csv"]


def test_a_uri_is_expanded_on_its_filesystem(folder: Path) -> None:
    assert expand([f"file://{folder}/day-*.parquet"], (".parquet",)) == (
        f"file://{folder}/day-2.parquet",
        f"file://{folder}/day-10.parquet",
    )
    assert len(expand([f"file://{folder}"], (".parquet",))) == 3


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("none.parquet", "no such file"),
        ("none-*.parquet", "no such file, and nothing that matches"),
        ("none/", "no such file"),
        ("sub/nothing", "no such file"),
    ],
)
def test_a_path_that_stands_for_nothing_is_named(folder: Path, path: str, says: str) -> None:
    with pytest.raises(DataError, match=says) as e:
        names(folder, "day-2.parquet", path)
    assert path.rstrip("/") in str(e.value)


def test_an_empty_folder_and_an_unknown_filesystem_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.parquet file in this folder"):
        expand([str(tmp_path)], (".parquet",))
    with pytest.raises(DataError, match=r"^nowhere://x: can't be opened"):
        expand(["nowhere://x"], (".parquet",))


def test_the_format_is_found_from_names(tmp_path: Path) -> None:
    def found(*names: str) -> str:
        for name in names:
            (tmp_path / name).touch()
        return infer_format(SourceConfig(paths=tuple(str(tmp_path / n) for n in names)))

    assert found("a.parquet", "b.pq") == "parquet"
    assert found("a.csv", "b.csv.gz") == "csv"
    assert found("log_standard_4_08_to_4_21_pure.csv") == "kuairand"
    assert infer_format(from_mapping(SourceConfig, {"synthetic": {}}, "s")) == "synthetic"
    with pytest.raises(ConfigError, match=r"note.txt: can't tell the format.*set `format`"):
        found("note.txt")
    with pytest.raises(ConfigError, match="can't tell the format"):
        found("a.csv", "b.pq")


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({}, "paths: name at least one"),
        ({"format": "synthetic", "paths": ["x"]}, "no paths"),
        ({"format": "csv", "synthetic": {}}, "don't go with format csv"),
        ({"paths": ["x"], "delimiter": "||"}, "delimiter must be one character"),
        ({"paths": ["x"], "format": "parqet"}, "did you mean `parquet`"),
        ({"paths": ["x"], "sorted": True}, "did you mean `sort`"),
        ({"synthetic": {"num_rows": 0}}, "at least 1"),
        ({"synthetic": {"label_noise": 0.7}}, "label_noise in"),
    ],
)
def test_wrong_settings_are_refused(mapping: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        from_mapping(SourceConfig, mapping, "source")
