"""A shard's scores in this process, where a pool isn't needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from diet_ray.data.log import PreparedLog
from diet_ray.errors import DataError
from diet_ray.scoring.prepare import prepare_scoring, reference_rows, validation_rows
from diet_ray.scoring.summary import Summary
from diet_ray.scoring.task import ScoreTask
from diet_ray.storage import Folder
from tests.scoring.scored_log import CONFIG, checkpoints_of, log_with_test_tail

LOSS_ALONE = replace(CONFIG, scores=("loss",))


@pytest.fixture
def log(tmp_path: Path) -> PreparedLog:
    return log_with_test_tail(tmp_path / "log")


def test_an_answer_is_the_summary_of_the_file(log: PreparedLog, tmp_path: Path):
    scoring = prepare_scoring(log, checkpoints_of(log), CONFIG, Folder.at(tmp_path / "scores"))
    task = ScoreTask(lambda: scoring)
    for shard in (log.train_stages[0].shards[0], log.test_stages[0].shards[0]):
        answer = Summary.from_json(task(shard).decode())
        name = f"stage={shard.stage:05d}/shard-{shard.index:06d}.parquet"
        metadata = pq.read_metadata(tmp_path / "scores" / name).metadata
        assert Summary.from_json(metadata[b"diet_ray.summary"].decode()) == answer
        assert len(answer.lists["helpful"].rows) == (5 if shard.stage < 3 else 0)


def test_a_score_that_is_not_finite_names_the_shard(log: PreparedLog, tmp_path: Path):
    path = Path(log.path) / log.stages[0].shards[0].file
    table = pq.read_table(path)
    prices = table["price"].to_numpy().copy()
    prices[100] = 3e38
    index = table.schema.get_field_index("price")
    pq.write_table(table.set_column(index, "price", [prices]), path, row_group_size=80)
    folder = Folder.at(tmp_path / "scores")
    scoring = prepare_scoring(log, checkpoints_of(log), LOSS_ALONE, folder)
    task = ScoreTask(lambda: scoring)
    task(log.stages[0].shards[0])
    with pytest.raises(DataError, match=rf"^{path}, rows from 80: `loss` is not finite: "):
        task(log.stages[0].shards[1])
    assert folder.names() == ["stage=00000"]
    assert (folder / "stage=00000").names() == ["shard-000000.parquet"]


def test_rows_of_reference_and_validation_are_evenly_spaced(log: PreparedLog):
    config = replace(CONFIG, reference_rows=12, validation_rows=4)
    assert len(reference_rows(log, config)) == 12
    half = log.load(log.test_stages)[:80]
    assert validation_rows(log, config).numeric.equal(half.numeric[::20])
    everything = replace(CONFIG, reference_rows=10_000, validation_rows=10_000)
    assert len(reference_rows(log, everything)) == log.num_train_rows
    assert len(validation_rows(log, everything)) == log.num_test_rows // 2


def test_a_long_log_is_not_read_whole_for_a_reference(
    log: PreparedLog, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("diet_ray.scoring.prepare._MAX_REFERENCE_SHARDS", 3)
    rows = reference_rows(log, replace(CONFIG, reference_rows=10_000))
    stages = log.load(log.train_stages)
    kept = [stages[80 * i : 80 * (i + 1)].numeric for i in (0, 2, 4)]
    assert len(rows) == 240
    assert rows.numeric.tolist() == [x for part in kept for x in part.tolist()]
