"""Scores of a whole log on a small cluster: complete, exact, resumable, whatever dies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diet_ray.data.log import PreparedLog
from diet_ray.errors import ConfigError, DataError, OutputError
from diet_ray.progress import Progress
from diet_ray.scoring import score_log as module
from diet_ray.scoring.checkpoint import Checkpoint
from diet_ray.scoring.config import ScoreConfig
from diet_ray.scoring.score_log import SCORES, ScoredLog, score_log
from diet_ray.scoring.shard_file import shard_file
from tests.scoring.scored_log import (
    CONFIG,
    DeadlyLog,
    checkpoints_of,
    column_of,
    files_of,
    log_with_test_tail,
    overwrite_shard,
    serial_scores,
    table_of,
)

LOSS_ALONE = replace(CONFIG, scores=("loss",))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    return log_with_test_tail(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def checkpoints(log: PreparedLog) -> tuple[Checkpoint, ...]:
    return checkpoints_of(log)


@pytest.fixture(scope="module")
def scored(
    log: PreparedLog,
    checkpoints: tuple[Checkpoint, ...],
    tmp_path_factory: pytest.TempPathFactory,
    ray_cluster: None,
) -> ScoredLog:
    """The log under all scores, on two scorers."""
    return score_log(log, checkpoints, CONFIG, tmp_path_factory.mktemp("scored") / "out")


@pytest.fixture
def copy(scored: ScoredLog, tmp_path: Path) -> Path:
    """The scored log, to spoil."""
    return Path(shutil.copytree(scored.path, tmp_path / "copy"))


def test_every_row_of_the_log_is_there_in_its_order(log: PreparedLog, scored: ScoredLog):
    table = table_of(scored.path)
    assert table["_row"].to_pylist() == list(range(640))
    assert scored.num_rows == 640
    assert table.column_names == ["_row", "_timestamp", "_label", *CONFIG.scores, "stage"]
    assert not scored.skipped
    labels = np.concatenate([log.read_shard(s)["_label"] for t in log.stages for s in t.shards])
    assert (column_of(table, "_label") == labels).all()


def test_values_are_those_of_a_serial_scorer_to_the_bit(
    log: PreparedLog, checkpoints: tuple[Checkpoint, ...], scored: ScoredLog
):
    table = table_of(scored.path)
    for name, values in serial_scores(log, checkpoints, CONFIG).items():
        assert np.array_equal(column_of(table, name), values), name


def test_the_summary_says_what_the_scores_are(log: PreparedLog, scored: ScoredLog):
    content = json.loads((scored.path / "summary.json").read_text())
    table = table_of(scored.path)
    assert content["num_rows"] == 640
    assert content["skipped"] == []
    assert set(content["moments"]) == set(CONFIG.scores) - {"features"}
    for name, moments in content["moments"].items():
        values = column_of(table, name).astype(np.float64)
        assert moments["mean"] == pytest.approx(values.mean(), rel=1e-9)
        assert moments["sd"] == pytest.approx(values.std(), rel=1e-6)
        assert (moments["smallest"], moments["largest"]) == (values.min(), values.max())
    train = column_of(table, "validation")[: log.num_train_rows]
    helpful = content["lists"]["helpful"]
    assert [row["row"] for row in helpful] == np.argsort(-train, kind="stable")[:5].tolist()
    assert [row["score"] for row in helpful] == np.sort(train)[::-1][:5].tolist()
    redundant = content["lists"]["redundant"]
    leverage = column_of(table, "leverage")[: log.num_train_rows]
    assert [row["row"] for row in redundant] == np.argsort(leverage, kind="stable")[:5].tolist()
    assert set(helpful[0]["fields"]) == {"user", "item", "price", "seen"}


def test_a_finished_log_is_not_scored_again(
    log: PreparedLog,
    checkpoints: tuple[Checkpoint, ...],
    scored: ScoredLog,
    copy: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(module, "ShardPool", None)
    renamed = tuple(replace(c, name=f"moved/{c.name}") for c in checkpoints)
    other_pool = replace(CONFIG, num_scorers=1, on_bad_shard="skip")
    found = score_log(log, renamed, other_pool, copy)
    assert (found.summary, found.num_rows) == (scored.summary, scored.num_rows)


def test_only_what_is_missing_is_scored(
    log: PreparedLog, checkpoints: tuple[Checkpoint, ...], scored: ScoredLog, copy: Path
):
    lost = [log.stages[0].shards[1], log.stages[2].shards[0], log.stages[3].shards[1]]
    for shard in lost:
        (copy / SCORES / shard_file(shard)).unlink()
    (copy / "summary.json").unlink()
    half_written = copy / SCORES / "stage=00002" / ".tmp-of-a-killed-scorer"
    half_written.write_bytes(b"half")
    before = {p: p.stat().st_mtime_ns for p in (copy / SCORES).rglob("*.parquet")}
    found = score_log(log, checkpoints, CONFIG, copy)
    assert found.summary == scored.summary
    assert files_of(copy) == files_of(scored.path)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert not half_written.exists()


def test_an_interrupted_run_goes_on(
    log: PreparedLog,
    checkpoints: tuple[Checkpoint, ...],
    scored: ScoredLog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    with monkeypatch.context() as patch:
        advance = Progress.advance

        def interrupt(progress: Progress, rows: int, **shown: object) -> None:
            advance(progress, rows, **shown)
            if progress.done_rows >= 160:
                raise KeyboardInterrupt

        patch.setattr(Progress, "advance", interrupt)
        with pytest.raises(KeyboardInterrupt):
            score_log(log, checkpoints, CONFIG, tmp_path / "out")
    kept = files_of(tmp_path / "out")
    assert len(kept) >= 2
    assert not (tmp_path / "out" / "summary.json").exists()
    found = score_log(log, checkpoints, replace(CONFIG, num_scorers=1), tmp_path / "out")
    assert found.summary == scored.summary
    assert files_of(tmp_path / "out") == files_of(scored.path)


def test_a_killed_scorer_changes_no_bit(
    log: PreparedLog, checkpoints: tuple[Checkpoint, ...], scored: ScoredLog, tmp_path: Path
):
    deadly = DeadlyLog.of(log, victim=3, marker=tmp_path / "killed")
    found = score_log(deadly, checkpoints, CONFIG, tmp_path / "out")
    assert deadly.marker.exists()
    assert found.summary == scored.summary
    assert files_of(tmp_path / "out") == files_of(scored.path)


def test_a_shard_that_cannot_be_read_fails_or_is_left_out_and_comes_later(
    checkpoints: tuple[Checkpoint, ...], scored: ScoredLog, tmp_path: Path
):
    log = log_with_test_tail(tmp_path / "log")
    bad = log.stages[1].shards[1]
    file = Path(log.path) / bad.file
    whole = file.read_bytes()
    overwrite_shard(log, bad)
    named = rf"{file}, rows from {bad.first_row}: can't be read: .*prepare the log again"
    with pytest.raises(DataError, match=named):
        # Even before any scorer starts: `leverage` refers to rows of that shard.
        score_log(log, checkpoints, CONFIG, tmp_path / "out")
    with pytest.raises(DataError, match=named):
        score_log(log, checkpoints, LOSS_ALONE, tmp_path / "loss")
    skipping = replace(CONFIG, on_bad_shard="skip")
    found = score_log(log, checkpoints, skipping, tmp_path / "out")
    (reason,) = found.skipped
    assert f"{file}, rows from {bad.first_row}: can't be read" in reason
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["skipped"] == [reason]
    assert found.num_rows == 560
    rows = table_of(tmp_path / "out")["_row"].to_pylist()
    assert rows == [r for r in range(640) if not 240 <= r < 320]
    file.write_bytes(whole)
    found = score_log(log, checkpoints, CONFIG, tmp_path / "out")
    assert not found.skipped
    assert table_of(tmp_path / "out")["_row"].to_pylist() == list(range(640))


def test_shards_that_are_all_unreadable_are_an_error(
    log: PreparedLog, checkpoints: tuple[Checkpoint, ...], tmp_path: Path, ray_cluster: None
):
    missing = replace(log, path=str(tmp_path / "moved"))
    config = replace(LOSS_ALONE, on_bad_shard="skip", num_scorers=1)
    with pytest.raises(DataError, match=r"moved: no shard could be scored; the first: .*00000"):
        score_log(missing, checkpoints, config, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda log, cs, c: (log, cs, replace(c, scores=("loss",))), "config"),
        (lambda log, cs, c: (log, cs, replace(c, batch_size=16)), "config"),
        (lambda log, cs, c: (log, cs[:1], c), "checkpoints"),
        (lambda log, cs, c: (log, cs[::-1], c), "checkpoints"),
        (lambda log, cs, c: (log, (cs[0], other_weights(cs[1])), c), "checkpoints"),
        (lambda log, cs, c: (log, (cs[0], other_moments(cs[1])), c), "checkpoints"),
        (lambda log, cs, c: (replace(log, fingerprint="other"), cs, c), "log"),
    ],
)
def test_a_folder_of_other_scores_is_refused(
    change: Callable[..., tuple[Any, Any, ScoreConfig]],
    named: str,
    log: PreparedLog,
    checkpoints: tuple[Checkpoint, ...],
    scored: ScoredLog,
):
    before = files_of(scored.path)
    with pytest.raises(OutputError) as refused:
        score_log(*change(log, checkpoints, CONFIG), scored.path)
    assert str(refused.value) == (
        f"{scored.path}: holds scores of another {named}: choose another --out"
    )
    assert files_of(scored.path) == before


def other_weights(checkpoint: Checkpoint) -> Checkpoint:
    name = "output.bias"
    return replace(
        checkpoint, weights={**checkpoint.weights, name: checkpoint.weights[name] + 1e-6}
    )


def other_moments(checkpoint: Checkpoint) -> Checkpoint:
    assert checkpoint.second_moments is not None
    moments = {n: 2 * v for n, v in checkpoint.second_moments.items()}
    return replace(checkpoint, second_moments=moments)


def test_a_folder_of_something_else_is_refused(
    log: PreparedLog, checkpoints: tuple[Checkpoint, ...], tmp_path: Path
):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(OutputError, match=rf"^{tmp_path}: exists and holds no scores"):
        score_log(log, checkpoints, CONFIG, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("content", ["no json", "[1]"])
def test_a_broken_description_is_named(
    content: str, log: PreparedLog, checkpoints: tuple[Checkpoint, ...], tmp_path: Path
):
    (tmp_path / "score.json").write_text(content)
    with pytest.raises(OutputError, match=rf"^{tmp_path}/score.json: .*delete the folder"):
        score_log(log, checkpoints, CONFIG, tmp_path)


def test_a_truncated_file_of_scores_is_named(
    log: PreparedLog, checkpoints: tuple[Checkpoint, ...], scored: ScoredLog, copy: Path
):
    path = copy / SCORES / shard_file(log.stages[2].shards[1])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=rf"^{path}: can't be read: .*; delete it$"):
        score_log(log, checkpoints, CONFIG, copy)


def test_validation_needs_test_rows(
    log: PreparedLog, checkpoints: tuple[Checkpoint, ...], tmp_path: Path
):
    train = replace(log, stages=log.train_stages)
    with pytest.raises(DataError, match=rf"^{log.path}: the log has too few test rows for `valid"):
        score_log(train, checkpoints, CONFIG, tmp_path / "out")


def test_a_checkpoint_must_have_what_scores_need(
    log: PreparedLog, checkpoints: tuple[Checkpoint, ...], tmp_path: Path
):
    bare = (checkpoints[0], replace(checkpoints[1], second_moments=None))
    with pytest.raises(ConfigError, match=r"^checkpoint 1: has no second moments of Adam"):
        score_log(log, bare, CONFIG, tmp_path / "bare")
    fewer = replace(checkpoints[1], candidate=replace(bare[1].candidate, without_fields=("seen",)))
    with pytest.raises(ConfigError, match=r"^checkpoint 1: without_fields"):
        score_log(log, (fewer,), CONFIG, tmp_path / "fewer")
