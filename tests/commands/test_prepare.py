"""`diet prepare` as a user types it, and that what it makes distils."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import yaml

from diet_ray import DistilledDataset
from tests.data.infer.test_proposal import HEADER, lines
from tests.data.sources.public.prepared import write
from tests.kuairand import SETTINGS
from tests.test_cli import diet

BEHAVIORS = [
    f"{user},{item},{item % 7},{action},{1_511_539_200 + step * 600}"
    for draw in [random.Random(0)]
    for step in range(1200)
    for user, item, action in [
        (draw.randint(1, 40), draw.randint(1, 60), draw.choice(["pv", "buy"]))
    ]
]


def distil(folder: Path, out: Path) -> DistilledDataset:
    """With the configuration that was written, and a quicker proxy."""
    path = folder / "distill.yaml"
    quick = {k: SETTINGS[k] for k in ("proxies", "influence", "refinement", "retained_rows")}
    path.write_text(
        yaml.safe_dump(yaml.safe_load(path.read_text()) | quick | {"budget": {"fraction": 0.05}})
    )
    assert diet("distill", "--config", path, "--out", out) == 0
    return DistilledDataset.load(out / "distilled")


@pytest.mark.usefixtures("ray_cluster")
def test_a_public_log_is_prepared_and_distilled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write(tmp_path / "raw" / "UserBehavior.csv", *BEHAVIORS)
    write(tmp_path / "raw" / "readme.md", "hello")
    out = tmp_path / "log"
    assert diet("prepare", "auto", raw.parent, out, "--negatives", "1", "--workers", "1") == 0
    printed = capsys.readouterr()
    assert "readme.md: isn't of taobao-behavior; left out" in printed.out
    assert "rows that aren't clicks" in printed.out
    assert f"diet distill --config {out / 'distill.yaml'}" in printed.out
    report = json.loads((out / "prepare.json").read_text())
    assert report["num_read"] == 1200
    assert report["num_positive"] == sum(",pv," in b for b in BEHAVIORS)
    assert (out / "schema.yaml").read_text().startswith("# Taobao UserBehavior")
    dataset = distil(out, tmp_path / "run")
    assert dataset.num_slots > 10


@pytest.mark.usefixtures("ray_cluster")
def test_a_strangers_csv_from_proposal_to_distilled_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write(tmp_path / "clicks.csv", HEADER, *lines(2000))
    assert diet("prepare", "--infer", raw, tmp_path / "mine") == 0
    assert "label: {column: clicked}" in capsys.readouterr().out
    assert distil(tmp_path / "mine", tmp_path / "run").num_slots > 10


@pytest.mark.usefixtures("ray_cluster")
def test_a_table_with_a_schema_is_sorted_into_days_here_and_on_ray(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = lines(3000)
    random.Random(2).shuffle(rows)
    raw = write(tmp_path / "clicks.csv", HEADER, *rows)
    assert diet("prepare", "--infer", raw, tmp_path / "mine") == 0
    schema = tmp_path / "mine" / "schema.yaml"
    as_parquet = tmp_path / "parquet" / "clicks.parquet"
    as_parquet.parent.mkdir()
    pq.write_table(pa_csv.read_csv(raw), as_parquet, row_group_size=500)
    made = {}
    for name, arguments in {
        "csv": ("csv", raw),
        "parquet": ("parquet", as_parquet.parent),
        "ray": ("csv", raw, "--address", "auto"),
    }.items():
        out = tmp_path / f"log-{name}"
        assert diet("prepare", *arguments[:2], out, "--schema", schema, *arguments[2:]) == 0
        files = sorted((out / "log").iterdir())
        assert [f.name for f in files] == [f"2023-11-{d}.parquet" for d in range(14, 18)]
        made[name] = [pq.read_table(f).to_pylist() for f in files]
    assert made["csv"] == made["ray"]
    times = [r["time"] for file in made["csv"] for r in file]
    assert times == sorted(times)
    assert len(times) == 3000
    by_ts = [[(r["time"], r["price"], r["user_id"]) for r in f] for f in made["csv"]]
    assert by_ts == [[(r["time"], r["price"], r["user_id"]) for r in f] for f in made["parquet"]]
    assert distil(tmp_path / "log-csv", tmp_path / "run").num_slots > 10


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["kuairnd", "x", "y"], "did you mean `kuairand`"),
        (["kuairand", "nowhere", "y"], "nowhere: no such file"),
        (["kuairand"], "say SOURCE, PATH and OUT"),
        (["csv", "x", "y"], "--schema: csv needs a schema file"),
        (["--infer", "nowhere.csv"], "nowhere.csv: no such file"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert diet("prepare", *arguments) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert len(printed.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_what_is_known_about_a_log_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert diet("prepare", "taobao-ads", "--about") == 0
    assert "Published" in capsys.readouterr().out
