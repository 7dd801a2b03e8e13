"""What a person sees of a scored log: decoded rows, and tables that fit a narrow terminal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from diet_ray.data.log import PreparedLog
from diet_ray.scoring.config import RowScore
from diet_ray.scoring.listing import listed_rows
from diet_ray.scoring.score_log import ScoredLog
from diet_ray.scoring.summary import Summary
from diet_ray.scoring.tables import print_scored
from diet_ray.storage import Folder
from tests.distillation.small_log import small_log


@pytest.fixture
def log(tmp_path: Path) -> PreparedLog:
    """Items have a vocabulary, users are hashed."""
    log = small_log(tmp_path / "log")
    ids = np.arange(2, 20, dtype=np.int32)
    vocabulary = pa.table(
        {
            # An item that isn't admitted yet has the id of all unknown ones.
            "value": [f"item {i}" for i in ids] + ["rare"],
            "id": pa.array([*ids, 1], pa.int32()),
            "count": pa.array([5] * 18 + [1], pa.int64()),
        }
    )
    Folder.at(log.path).write_table("vocabulary/item.parquet", vocabulary)
    return log


@pytest.fixture
def summary(log: PreparedLog) -> Summary:
    row = np.arange(log.num_train_rows)
    values = np.sin(row).astype(np.float32)
    scores: dict[RowScore, np.ndarray] = {
        "adam_validation": values * 1e-7,
        "adam_self_influence": values**2 * 1e5,
        "leverage": 1 + values,
    }
    return Summary.of(row, scores, top=7)


def test_listed_rows_hold_the_logs_own_values(log: PreparedLog, summary: Summary):
    found = listed_rows(log, summary)
    assert set(found) == {"helpful", "harmful", "influential", "redundant"}
    encoded = log.load(log.train_stages)
    for name, rows in found.items():
        assert tuple(r["row"] for r in rows) == summary.lists[name].rows
        assert tuple(r["score"] for r in rows) == summary.lists[name].values
        for row in rows:
            i = row["row"]
            assert row["label"] == encoded.label[i]
            assert row["time"].startswith(f"1970-01-01 00:0{i // 60}:{i % 60:02d}")
            user, item = encoded.categorical[i].tolist()
            seen = encoded.sequence[i, 0].tolist()
            known = {x: f"item {x}" for x in range(2, 20)} | {1: None, 0: None}
            assert row["fields"] == {
                "user": user,
                "item": known.get(item, item),
                "price": pytest.approx(float(encoded.numeric[i, 0])),
                "seen": [known.get(x, x) for x in seen if x],
            }
    json.dumps(found)


def test_only_shards_with_a_listed_row_are_read(log: PreparedLog, monkeypatch: pytest.MonkeyPatch):
    scores: dict[RowScore, np.ndarray] = {"leverage": np.arange(480, dtype=np.float32)}
    summary = Summary.of(np.arange(480), scores, top=81)
    read: list[int] = []
    read_shard = PreparedLog.read_shard

    def recorded(self: PreparedLog, shard: object, columns: object = None) -> pa.Table:
        read.append(shard.index)  # type: ignore[attr-defined]
        return read_shard(self, shard, columns)  # type: ignore[arg-type]

    monkeypatch.setattr(PreparedLog, "read_shard", recorded)
    assert len(listed_rows(log, summary)["redundant"]) == 81
    assert read == [0, 1]


@pytest.mark.parametrize("width", [80, 160])
def test_tables_fit_the_terminal(width: int, log: PreparedLog, summary: Summary, tmp_path: Path):
    (tmp_path / "summary.json").write_text(json.dumps({"lists": listed_rows(log, summary)}))
    scored = ScoredLog(
        path=tmp_path, summary=summary, num_rows=480, skipped=("file, rows: bad",), seconds=1.0
    )
    console = Console(width=width, record=True)
    print_scored(scored, console)
    lines = [line.strip() for line in console.export_text().splitlines()]
    tables = [line for line in lines if line and line[0] in "┏┃┡│└"]
    assert tables
    assert max(map(len, tables)) <= width
    for extremes in summary.lists.values():
        for row, value in zip(extremes.rows[:5], extremes.values, strict=False):
            # Numbers are never cut.
            (line,) = {x for x in tables if f" {row} " in x and f" {value:.4g} " in x}
            cells = line.strip("│").split("│")
            assert cells[2].strip() == f"1970-01-01 00:{row // 60:02d}:{row % 60:02d}"
            assert cells[3].strip() in ("0", "1")
            assert cells[4].startswith(" user ")
            assert ("…" in cells[4]) == (width == 80)
            assert line.endswith("│")
    for words in ("Most helpful, by adam_validation", "Most redundant, by leverage"):
        assert words in lines
    assert "Left out: file, rows: bad" in lines
    assert f"480 rows in {tmp_path}/scores, lists in {tmp_path}/summary.json" in lines
