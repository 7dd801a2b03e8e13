"""Which reader a configuration gets, and that the shipped examples can be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from diet_ray.data.schema import Schema
from diet_ray.data.sources.base import read_serially
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.sources.open import infer_format, open_source
from diet_ray.data.sources.synthetic import SyntheticConfig
from diet_ray.errors import ConfigError, DataError

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.parquet", "b.pq", "README.md"], "parquet"),
        (["a.csv", "b.tsv.gz"], "csv"),
        (["user_features_1k.csv", "log_standard_4_08_to_4_21_1k.csv"], "kuairand"),
        (["x/data/log_standard_4_22_to_5_08_27k_part2.csv"], "kuairand"),
        (["catalog_standard_a.csv"], "csv"),
    ],
)
def test_names_tell_the_format(tmp_path: Path, names: list[str], expected: str) -> None:
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert infer_format(SourceConfig(paths=(str(tmp_path),))) == expected


def test_generator_settings_stand_for_a_format() -> None:
    assert infer_format(SourceConfig(synthetic=SyntheticConfig(num_rows=5))) == "synthetic"


@pytest.mark.parametrize("names", [["a.parquet", "b.csv"], ["a.txt"]])
def test_formats_that_names_do_not_tell_are_asked_for(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    paths = tuple(str(tmp_path / name) for name in names)
    with pytest.raises(ConfigError, match="set `format`"):
        infer_format(SourceConfig(paths=paths))


def test_a_named_format_needs_no_suffix(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("time_ms,long_view,user_id\n5,1,u\n")
    schema = Schema.load(EXAMPLES / "kuairand" / "schema.yaml")
    config = SourceConfig(format="csv", paths=(str(tmp_path / "log.txt"),))
    with pytest.raises(DataError, match=r"log.txt: no column `video_id`"):
        open_source(config, schema, tmp_path)


def test_the_shipped_sample_fits_its_schema(tmp_path: Path) -> None:
    schema = Schema.load(EXAMPLES / "kuairand" / "schema.yaml")
    path = EXAMPLES / "data" / "kuairand-sample.parquet"
    source = open_source(SourceConfig(paths=(str(path),)), schema, tmp_path)
    assert sum(t.num_rows for t in read_serially(source)) == 41_828


@pytest.mark.parametrize("name", ["kuairand", "movielens", "synthetic"])
def test_no_example_learns_from_the_outcome_of_an_event(name: str) -> None:
    outcome = {
        "label", "rating", "click", "true_probability", "is_click", "is_like", "is_follow",
        "is_comment", "is_forward", "is_hate", "like_not_hate", "long_view", "play_time_ms",
        "profile_stay_time", "comment_stay_time", "is_profile_enter",
    }  # fmt: skip
    schema = Schema.load(EXAMPLES / name / "schema.yaml")
    assert outcome.isdisjoint(f.source_column for f in schema.fields)
