"""Preparing and appending, end to end through Ray: what is made, refused, and left behind."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diet_ray.data import prepare as prepare_module
from diet_ray.data.log import MANIFEST, PreparedLog
from diet_ray.data.prepare import append, prepare
from diet_ray.data.schema import Schema
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.sources.synthetic import SyntheticConfig
from diet_ray.data.stages import StageConfig
from diet_ray.errors import ConfigError, DataError, OutputError
from tests.data.click_log import (
    DAY_S,
    SCHEMA,
    START_S,
    click_rows,
    reference_histories,
    replaced,
    write_log,
)

pytestmark = pytest.mark.usefixtures("ray_cluster")

STAGES = StageConfig(shard_rows=40)
EXAMPLES = Path(__file__).parents[2] / "examples"


def prepared(
    folder: Path, rows: pa.Table, stages: StageConfig = STAGES, **config: Any
) -> PreparedLog:
    paths = write_log(folder / "raw", rows, cuts=(250,))
    return prepare(SourceConfig(paths=paths, **config), SCHEMA, stages, folder / "log")


def columns(log: PreparedLog) -> dict[str, list]:
    return pa.concat_tables(
        [log.read_shard(shard) for stage in log.stages for shard in stage.shards]
    ).to_pydict()


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "append.lock"
    }


def test_a_log_is_what_the_definitions_say(tmp_path: Path) -> None:
    rows = click_rows()
    log = prepared(tmp_path, rows)
    raw, found = rows.to_pydict(), columns(log)
    assert found["_row"] == list(range(600))
    assert found["_timestamp"] == [t * 1_000_000 for t in raw["time"]]
    assert found["_label"] == raw["click"]

    # Stages: the six days, the last of which is cut where the last tenth of all rows begins.
    days = [(t - START_S) // DAY_S for t in raw["time"]]
    stage_of = [s.index for s in log.stages for _ in range(s.num_rows)]
    cuts = [days[i] + (i >= 540) for i in range(600)]
    assert stage_of == [sorted(set(cuts)).index(c) for c in cuts]

    # Ids: by stage, a value is known once it was seen often enough in the training part.
    known: dict[str, dict[Any, int]] = {"user": {}, "item": {}}
    counts: dict[str, dict[Any, int]] = {"user": {}, "item": {}}
    order: dict[str, list] = {"user": [], "item": []}
    histories = reference_histories(rows, "user", "item", 4)
    for stage in log.stages:
        here = range(stage.first_row, stage.first_row + stage.num_rows)
        for name, min_count in (("user", 1), ("item", 2)):
            if stage.role == "train":
                for i in here:
                    if raw[name][i] is not None:
                        counts[name][raw[name][i]] = counts[name].get(raw[name][i], 0) + 1
                        if counts[name][raw[name][i]] == 1:
                            order[name].append(raw[name][i])
                for value in order[name]:
                    if counts[name][value] >= min_count:
                        known[name].setdefault(value, len(known[name]) + 2)
            assert [found[name][i] for i in here] == [
                known[name].get(raw[name][i], 1) for i in here
            ]
        for i in here:
            items = [known["item"].get(item, 1) for item in histories[i]]
            assert found["seen"][i] == items + [0] * (4 - len(items)), i
    late = set(raw["item"][540:]) - set(raw["item"][:540])
    assert late, "the test tail must hold items that the training part doesn't"

    # Numbers: the scale of the first stage alone.
    logs = [None if p is None else math.copysign(math.log1p(abs(p)), p) for p in raw["price"]]
    first = [x for x in logs[: log.stages[0].num_rows] if x is not None]
    mean, sd = np.mean(first), np.std(first)
    expected = [0.0 if x is None else (x - mean) / sd for x in logs]
    np.testing.assert_allclose(found["price"], expected, rtol=1e-4, atol=1e-5)

    assert [len([t for t in row if t]) for row in found["tags"]] == [
        min(3, len(t)) for t in raw["tags"]
    ]


def test_neither_files_nor_blocks_nor_names_of_the_log_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = click_rows()
    whole = prepared(tmp_path / "a", rows)
    paths = write_log(tmp_path / "many", rows, cuts=tuple(range(35, 600, 35)))
    told: list[int] = []
    other = prepare(SourceConfig(paths=paths), SCHEMA, STAGES, tmp_path / "b", told.append)
    assert files(Path(other.path)) == files(Path(whole.path))
    assert sum(told) == 600


def test_all_formats_give_one_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = click_rows().drop_columns(["tags"])
    schema = Schema(
        timestamp=SCHEMA.timestamp,
        label=SCHEMA.label,
        fields=tuple(f for f in SCHEMA.fields if f.name != "tags"),
    )
    pq.write_table(rows, tmp_path / "a.parquet")
    rows.to_pandas().astype({"item": str}).to_csv(tmp_path / "a.csv", index=False)
    logs = [
        prepare(SourceConfig(paths=(str(tmp_path / f"a.{kind}"),)), schema, STAGES, tmp_path / kind)
        for kind in ("parquet", "csv")
    ]
    assert files(tmp_path / "parquet") == files(tmp_path / "csv")
    assert logs[0].fingerprint == logs[1].fingerprint


def test_sorting_on_request_restores_the_order(tmp_path: Path) -> None:
    rows = click_rows()
    # Rows of one instant stay in order, so that there is one right answer.
    _, group = np.unique(rows["time"].to_numpy(), return_inverse=True)
    shuffled = np.random.default_rng(1).permutation(group.max() + 1)[group]
    mixed = rows.take(pa.array(np.argsort(shuffled, kind="stable")))
    with pytest.raises(DataError, match=r"part-\d.parquet: row \d+: .* `sort: true`"):
        prepared(tmp_path / "unsorted", mixed)
    assert not (tmp_path / "unsorted" / "log").exists()
    expected = prepared(tmp_path / "sorted", rows)
    found = prepared(tmp_path / "mixed", mixed, sort=True)
    assert files(Path(found.path)) == files(Path(expected.path))


def test_raw_kuairand_becomes_a_sorted_log(tmp_path: Path) -> None:
    raw = Path(__file__).parent / "files" / "kuairand"
    schema = Schema.load(EXAMPLES / "kuairand" / "schema.yaml")
    log = prepare(SourceConfig(paths=(str(raw),)), schema, StageConfig(), tmp_path / "log")
    assert log.num_train_rows + log.num_test_rows == 96
    times = columns(log)["_timestamp"]
    assert times == sorted(times)


def test_examples_name_columns_that_exist(tmp_path: Path) -> None:
    sample = SourceConfig(paths=(str(EXAMPLES / "data" / "kuairand-sample.parquet"),))
    schema = Schema.load(EXAMPLES / "kuairand" / "schema.yaml")
    log = prepare(sample, schema, StageConfig(), tmp_path / "kuairand")
    assert log.num_train_rows + log.num_test_rows == 41_828
    assert len(log.train_stages) == 13
    Schema.load(EXAMPLES / "movielens" / "schema.yaml")
    synthetic = SourceConfig(synthetic=SyntheticConfig(num_rows=2_000, num_users=50, days=2))
    schema = Schema.load(EXAMPLES / "synthetic" / "schema.yaml")
    log = prepare(synthetic, schema, StageConfig(), tmp_path / "synthetic")
    assert log.num_train_rows == 1_800


def test_appending_is_bit_identical_to_preparing_both(tmp_path: Path) -> None:
    rows = click_rows()
    stages = StageConfig(by="rows", rows=100, shard_rows=40, test_fraction=0.0)
    first, second, third = write_log(tmp_path / "raw", rows, cuts=(200, 500))
    whole = prepare(SourceConfig(paths=(first, second, third)), SCHEMA, stages, tmp_path / "whole")
    log = prepare(SourceConfig(paths=(first,)), SCHEMA, stages, tmp_path / "grown")
    log = append(log, SourceConfig(paths=(second,)))
    log = append(log, SourceConfig(paths=(third,)))
    assert log == PreparedLog.open(log.path)
    assert (log.stages, log.fingerprint, log.scales) == (
        whole.stages, whole.fingerprint, whole.scales,
    )  # fmt: skip
    assert columns(log) == columns(whole)
    grown, expected = files(tmp_path / "grown"), files(tmp_path / "whole")
    for name in expected:
        if name != MANIFEST:
            assert grown[name.replace("state-0", "state-2")] == expected[name], name
    assert len(grown) == len(expected)


def test_appended_rows_are_training_rows_and_see_the_test_tail_as_history(tmp_path: Path) -> None:
    rows = click_rows()
    (first, second) = write_log(tmp_path / "raw", rows, cuts=(500,))
    log = prepare(SourceConfig(paths=(first,)), SCHEMA, STAGES, tmp_path / "log")
    frozen = log.features
    log = append(log, SourceConfig(paths=(second,)))
    assert log.stages[-1].role == "train"
    assert log.num_test_rows == 50
    assert log.num_train_rows == 550
    assert log.features_at(log.test_stages[-1].index) == frozen
    found = columns(log)
    histories = reference_histories(rows, "user", "item", 4)
    assert [sum(i > 0 for i in row) for row in found["seen"]] == [len(h) for h in histories]
    # An item first seen in the test tail has no id then, and one from the appended rows on.
    table = pq.read_table(Path(log.path) / "vocabulary" / "item.parquet").to_pydict()
    ids = dict(zip(table["value"], table["id"], strict=True))
    assert [found["item"][i] for i in range(500, 600)] == [
        ids[str(v)] for v in rows["item"].to_pylist()[500:]
    ]


def test_older_rows_are_not_appended_and_the_log_stays(tmp_path: Path) -> None:
    rows = click_rows()
    log = prepared(tmp_path, rows.slice(100))
    before = files(Path(log.path))
    old = write_log(tmp_path / "old", rows.slice(0, 100))
    for config in (SourceConfig(paths=old), SourceConfig(paths=old, sort=True)):
        with pytest.raises(DataError, match=r"is older than the log's last row .*only later rows"):
            append(log, config)
    late = click_rows(50, seed=2)
    late = late.set_column(0, "time", pa.array(late["time"].to_numpy() + 10 * DAY_S))
    bad = write_log(tmp_path / "bad", replaced(late, "click", 49, 2))
    with pytest.raises(DataError, match=r"row 50, column `click`"):
        append(log, SourceConfig(paths=bad))
    assert PreparedLog.open(log.path) == log
    after = files(Path(log.path))
    assert {k: after[k] for k in before} == before


@pytest.mark.parametrize("place", ["state", "manifest"])
def test_a_killed_append_leaves_the_old_log_and_can_be_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    rows = click_rows()
    stages = StageConfig(by="rows", rows=100, shard_rows=40, test_fraction=0.0)
    first, second = write_log(tmp_path / "raw", rows, cuts=(300,))
    whole = prepare(SourceConfig(paths=(first, second)), SCHEMA, stages, tmp_path / "whole")
    log = prepare(SourceConfig(paths=(first,)), SCHEMA, stages, tmp_path / "log")

    class Killed(BaseException):
        pass

    commit, write = prepare_module._commit, prepare_module.Folder.write

    def dies(*_: object) -> None:
        raise Killed

    def dies_at_manifest(folder: Any, name: str, content: bytes) -> None:
        if name == MANIFEST:
            raise Killed
        write(folder, name, content)

    with monkeypatch.context() as patch:
        if place == "state":
            patch.setattr(prepare_module, "_commit", dies)
        else:
            patch.setattr(prepare_module.Folder, "write", dies_at_manifest)
        with pytest.raises(Killed):
            append(log, SourceConfig(paths=(second,)))
    assert prepare_module._commit is commit
    assert PreparedLog.open(log.path) == log
    assert columns(log) == {k: v[:300] for k, v in columns(whole).items()}
    again = append(log, SourceConfig(paths=(second,)))
    assert (again.stages, again.fingerprint) == (whole.stages, whole.fingerprint)
    assert columns(again) == columns(whole)


def refuse(
    tmp_path: Path, says: str, rows: pa.Table | None, error: type = DataError, **config: Any
) -> None:
    if rows is not None:
        config["paths"] = write_log(tmp_path / "raw", rows)
    with pytest.raises(error, match=says) as e:
        prepare(SourceConfig(**config), SCHEMA, STAGES, tmp_path / "log")
    assert type(e.value) is error
    assert "\n" not in str(e.value)
    assert not (tmp_path / "log").exists()
    assert {p.name for p in tmp_path.iterdir()} <= {"raw"}


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("click", 2, r"part-0.parquet: row 301, column `click`: the label must be 0 or 1 but is 2"),
        ("time", None, r"part-0.parquet: row 301, column `time`: the timestamp is missing"),
        ("time", START_S - 1, r"part-0.parquet: row 301: .*rows aren't in time order"),
    ],
)
def test_a_bad_value_is_refused_where_it_stands(
    tmp_path: Path, column: str, value: Any, says: str
) -> None:
    refuse(tmp_path, says, replaced(click_rows(), column, 300, value))


def test_one_class_is_refused(tmp_path: Path) -> None:
    rows = click_rows()
    ones = pa.array([1] * 540 + rows["click"].to_pylist()[540:], pa.int8())
    says = r"column `click`: every label of the training part is 1; both classes are needed"
    refuse(tmp_path, says, rows.set_column(1, "click", ones))
    zeros = pa.array(rows["click"].to_pylist()[:540] + [0] * 60, pa.int8())
    says = r"every label of the test tail is 0; choose a larger test_fraction or a longer log"
    refuse(tmp_path, says, rows.set_column(1, "click", zeros))


def test_too_few_rows_for_a_tail_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path, "part-0.parquet: 3 rows are too few for a test tail of 0.1", click_rows(3))


def test_a_missing_file_and_an_unknown_format_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path, r"none.parquet: no such file", None, paths=(str(tmp_path / "none.parquet"),))
    refuse(tmp_path, "can't tell the format", None, ConfigError, paths=(__file__,))


def test_an_existing_folder_is_refused_and_kept(tmp_path: Path) -> None:
    log = prepared(tmp_path, click_rows())
    before = files(Path(log.path))
    with pytest.raises(OutputError, match=r"log: exists already; choose another folder"):
        prepared(tmp_path, click_rows())
    assert files(Path(log.path)) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("keep")
    (tmp_path / "mine" / "unfinished").write_text("somebody's own list")
    source = SourceConfig(paths=(str(tmp_path / "raw"),))
    with pytest.raises(OutputError, match="mine: exists already"):
        prepare(source, SCHEMA, STAGES, tmp_path / "mine")
    kept = {"note.txt": b"keep", "unfinished": b"somebody's own list"}
    assert files(tmp_path / "mine") == kept
    with pytest.raises(OutputError, match=r"note.txt: .*: is it a folder"):
        prepare(source, SCHEMA, STAGES, tmp_path / "mine" / "note.txt")


KILLED = """
import os, signal, sys
from diet_ray.data import prepare as p
from diet_ray.data.sources.config import SourceConfig
from tests.data.click_log import SCHEMA
from tests.data.test_prepare import STAGES
p.read_in_order = lambda source: (t for s in source.shards for t in source.read(s))
rows = 0
def on_rows(n):
    global rows
    rows += n
    if rows > 200:
        os.kill(os.getpid(), signal.SIGKILL)
p.prepare(SourceConfig(paths=(sys.argv[1],)), SCHEMA, STAGES, sys.argv[2], on_rows)
"""


def test_a_killed_prepare_leaves_nothing_that_opens_and_is_done_again(tmp_path: Path) -> None:
    write_log(tmp_path / "raw", click_rows(), cuts=(250,))
    out = tmp_path / "log"
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "raw"), str(out)],
        cwd=EXAMPLES.parent,
        env=os.environ | {"PYTHONPATH": str(EXAMPLES.parent)},
        capture_output=True,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert any((out / "stages").iterdir())
    with pytest.raises(DataError, match="no such file: prepare the log first"):
        PreparedLog.open(str(out))
    source = SourceConfig(paths=(str(tmp_path / "raw"),))
    log = prepare(source, SCHEMA, STAGES, out)
    whole = prepare(source, SCHEMA, STAGES, tmp_path / "whole")
    assert files(out) == files(tmp_path / "whole")
    assert log.fingerprint == whole.fingerprint
