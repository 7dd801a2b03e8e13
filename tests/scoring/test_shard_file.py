from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pds
import pyarrow.parquet as pq
import pytest

from diet_ray.data.log import PreparedLog, Shard
from diet_ray.errors import DataError
from diet_ray.scoring.config import RowScore
from diet_ray.scoring.shard_file import read_summary, shard_file, write_shard
from diet_ray.scoring.summary import Summary
from diet_ray.storage import Folder
from tests.distillation.small_log import small_log

NUM_FEATURES = 3


def scores_of(rows: pa.Table) -> dict[RowScore, np.ndarray]:
    """Values that say which row they are of."""
    row = rows["_row"].to_numpy().astype(np.float32)
    return {"validation": -row, "features": np.stack([row, 2 * row, 3 * row], axis=1)}


def write(log: PreparedLog, folder: Folder, shard: Shard) -> Summary:
    rows = log.read_shard(shard)
    scores = scores_of(rows)
    summary = Summary.of(rows["_row"].to_numpy(), scores, top=5)
    write_shard(folder, shard, rows, scores, summary)
    return summary


@pytest.fixture
def log(tmp_path: Path) -> PreparedLog:
    return small_log(tmp_path / "log", num_stages=12, shard_rows=9)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder.at(tmp_path / "scores")


def test_all_files_are_one_table_in_the_order_of_the_log(
    log: PreparedLog, folder: Folder, tmp_path: Path
):
    shards = [s for stage in log.stages for s in stage.shards]
    for shard in reversed(shards):
        write(log, folder, shard)
    (tmp_path / "scores" / "stage=00003" / ".tmp-of-a-dead-writer").write_bytes(b"half")
    table = pds.dataset(tmp_path / "scores", partitioning="hive").to_table()
    assert table.column_names == [
        "_row",
        "_timestamp",
        "_label",
        "validation",
        "features",
        "stage",
    ]
    rows = pa.concat_tables([log.read_shard(s) for s in shards])
    for name in ("_row", "_timestamp", "_label"):
        assert table[name].equals(rows[name])
    assert table["_row"].to_pylist() == list(range(12 * 18))
    assert table["stage"].to_pylist() == [s.index for s in log.stages for _ in range(s.num_rows)]
    expected = scores_of(rows)
    assert table.schema.field("validation").type == pa.float32()
    assert (table["validation"].to_numpy() == expected["validation"]).all()
    features = table["features"].combine_chunks()
    assert features.type == pa.list_(pa.float32(), NUM_FEATURES)
    assert (features.flatten().to_numpy().reshape(-1, NUM_FEATURES) == expected["features"]).all()


def test_a_file_gives_its_summary_back(log: PreparedLog, folder: Folder):
    shard = log.stages[1].shards[1]
    assert not folder.exists(shard_file(shard))
    summary = write(log, folder, shard)
    assert shard_file(shard) == "stage=00001/shard-000003.parquet"
    assert read_summary(folder, shard) == summary


def test_the_same_scores_are_the_same_bytes(log: PreparedLog, folder: Folder):
    shard = log.stages[0].shards[0]
    write(log, folder, shard)
    first = folder.read(shard_file(shard))
    write(log, folder, shard)
    assert folder.read(shard_file(shard)) == first


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_named(log: PreparedLog, folder: Folder, kept: float):
    shard = log.stages[0].shards[1]
    write(log, folder, shard)
    path = Path(folder.path_of(shard_file(shard)))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match=rf"^{path}: can't be read: .*; delete it$"):
        read_summary(folder, shard)


def test_a_foreign_file_is_named(log: PreparedLog, folder: Folder):
    shard = log.stages[0].shards[0]
    path = Path(folder.path_of(shard_file(shard)))
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(DataError, match=rf"^{path}: can't be read: .*; delete it$"):
        read_summary(folder, shard)
