"""Reading a prepared log; written here without Ray, as `prepare` does with it."""

from __future__ import annotations

import json
import pickle
import threading
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from diet_ray.data.encoding import NUM_STRATA, Encoder
from diet_ray.data.log import MANIFEST, PreparedLog
from diet_ray.data.log_writer import StageWriter, initial_fingerprint
from diet_ray.data.rows import normalise
from diet_ray.data.stages import StageConfig, cut
from diet_ray.errors import DataError
from diet_ray.storage import Folder
from tests.data.click_log import SCHEMA, click_rows


def written(folder: Path, rows: pa.Table, config: StageConfig, num_train_rows: int) -> PreparedLog:
    """The log in a folder, from raw rows."""
    normalised = normalise(rows, SCHEMA, file="raw", first_row=0)
    encoder = Encoder(SCHEMA)
    start = initial_fingerprint(SCHEMA, config)
    writer = StageWriter(Folder.at(folder), encoder, folder, fingerprint=start)
    pieces = cut([normalised], config, timezone="UTC", num_train_rows=num_train_rows)
    stages = tuple(writer.write(pieces))
    log = PreparedLog(
        path=str(folder),
        schema=SCHEMA,
        stage_config=config,
        stages=stages,
        fingerprint=stages[-1].fingerprint,
        num_strata=NUM_STRATA,
        scales=encoder.scales,
        generation=0,
    )
    (folder / MANIFEST).write_bytes(log.to_json())
    return log


@pytest.fixture
def log(tmp_path: Path) -> PreparedLog:
    return written(tmp_path, click_rows(), StageConfig(shard_rows=40), num_train_rows=540)


def test_the_manifest_holds_the_whole_log(log: PreparedLog) -> None:
    assert PreparedLog.open(log.path) == log
    assert pickle.loads(pickle.dumps(log)) == log
    assert (log.num_train_rows, log.num_test_rows, log.num_strata) == (540, 60, 24)
    assert [s.role for s in log.stages] == ["train"] * 6 + ["test"]
    files = [s.shards[0].file for s in log.train_stages]
    assert log.num_train_bytes == sum(Path(log.path, f).stat().st_size for f in files)
    assert log.train_stages + log.test_stages == log.stages


def test_a_log_opened_by_a_relative_path_is_read_from_any_folder(
    log: PreparedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path.parent)
    opened = PreparedLog.open(tmp_path.name)
    monkeypatch.chdir("/")
    assert opened.read_shard(opened.stages[0].shards[0]).num_rows == 40


def test_stages_and_shards_cover_the_rows_without_gaps(log: PreparedLog) -> None:
    row = 0
    shards = [shard for stage in log.stages for shard in stage.shards]
    assert [s.index for s in shards] == list(range(len(shards)))
    for stage in log.stages:
        assert stage.first_row == row
        assert sum(s.num_rows for s in stage.shards) == stage.num_rows == sum(stage.strata)
        assert [s.stage for s in stage.shards] == [stage.index] * len(stage.shards)
        times: list[int] = []
        for shard in stage.shards:
            table = log.read_shard(shard)
            assert table["_row"].to_pylist() == list(range(row, row + shard.num_rows))
            assert shard.first_row == row
            assert all(c.num_chunks == 1 for c in table.columns)
            times += table["_timestamp"].to_pylist()
            row += shard.num_rows
        assert (stage.start_us, stage.end_us) == (times[0], times[-1])
    assert row == 600


def test_a_shard_may_be_read_in_part(log: PreparedLog) -> None:
    shard = log.stages[1].shards[1]
    assert log.read_shard(shard, ["item", "_label"]).column_names == ["item", "_label"]


def test_batches_are_shards_in_order(log: PreparedLog) -> None:
    batches = list(log.batches(log.stages))
    sizes = [shard.num_rows for stage in log.stages for shard in stage.shards]
    assert [len(b) for b in batches] == sizes
    whole = log.load(log.stages)
    assert torch.equal(whole.label, torch.cat([b.label for b in batches]))
    assert torch.equal(log.load(log.test_stages).categorical, whole.categorical[540:])
    assert whole.label.tolist() == click_rows()["click"].to_pylist()


def test_leaving_batches_early_and_failing_in_them_end_the_thread(log: PreparedLog) -> None:
    before = set(threading.enumerate())

    def assert_ended() -> None:
        for thread in set(threading.enumerate()) - before:
            thread.join(timeout=10)
            assert not thread.is_alive()

    batches = log.batches(log.stages)
    next(batches)
    assert set(threading.enumerate()) - before
    batches.close()  # type: ignore[attr-defined]
    assert_ended()
    (Path(log.path) / log.stages[2].shards[0].file).unlink()
    with pytest.raises(DataError, match=r"00002-000.parquet, rows from \d+: can't be read"):
        log.load(log.stages)
    assert_ended()


def test_features_grow_with_the_stages(log: PreparedLog) -> None:
    sizes = [log.features_at(s.index).num_ids for s in log.stages]
    assert all(a <= b for a, b in zip(sizes[0], sizes[-1], strict=True))
    assert sizes[0] != sizes[-1]
    assert sizes[-1] == sizes[-2] == log.features.num_ids  # the test stage teaches nothing
    for stage in log.train_stages:
        num_items = log.features_at(stage.index).num_ids[1]
        ids = [i for s in stage.shards for i in log.read_shard(s)["item"].to_pylist()]
        assert max(ids) < num_items


def test_each_stage_has_the_fingerprint_of_all_rows_so_far(tmp_path: Path) -> None:
    config = StageConfig(shard_rows=40)

    def fingerprints(name: str, rows: pa.Table, config: StageConfig = config) -> list[str]:
        (tmp_path / name).mkdir()
        log = written(tmp_path / name, rows, config, 540)
        return [s.fingerprint for s in log.stages]

    rows = click_rows()
    original = fingerprints("a", rows)
    assert len(set(original)) == 7
    assert fingerprints("b", rows) == original
    flipped = [int(y) for y in rows["click"].to_pylist()]
    flipped[300] = 1 - flipped[300]
    changed = fingerprints("c", rows.set_column(1, "click", pa.array(flipped, pa.int8())))
    assert [a == b for a, b in zip(original, changed, strict=True)] == [True] * 3 + [False] * 4
    assert fingerprints("d", rows, StageConfig(shard_rows=41))[0] != original[0]


def test_long_stages_are_spread_over_files(tmp_path: Path) -> None:
    config = StageConfig(by="rows", rows=500, shard_rows=3)
    log = written(tmp_path, click_rows(), config, 600)
    files = {s.file for s in log.stages[0].shards}
    assert files == {f"stages/00000-{i:03d}.parquet" for i in range(3)}
    assert log.load(log.stages).label.tolist() == click_rows()["click"].to_pylist()


def test_what_is_no_log_is_named(tmp_path: Path, log: PreparedLog) -> None:
    with pytest.raises(DataError, match=r"nowhere/log.json: no such file: prepare the log first"):
        PreparedLog.open(str(tmp_path / "nowhere"))
    manifest = Path(log.path) / MANIFEST
    content = json.loads(manifest.read_text())
    for broken, says in (
        ("{", r"log.json: can't be read"),
        ("[]", r"log.json: expected a JSON object"),
        (
            json.dumps(content | {"format_version": 99}),
            r"log.json: format 99, this program reads 1",
        ),
        (json.dumps(content | {"stagez": []}), r"unknown key `stagez`.*prepare the log again"),
    ):
        manifest.write_text(broken)
        with pytest.raises(DataError, match=says):
            PreparedLog.open(log.path)


def test_a_broken_shard_is_named(log: PreparedLog) -> None:
    shard = log.stages[1].shards[1]
    path = Path(log.path) / shard.file
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=rf"00001-000.parquet, rows from {shard.first_row}: can't"):
        log.read_shard(shard)
