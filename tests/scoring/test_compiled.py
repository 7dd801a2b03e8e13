"""Compiled scores are the scores; what can't be compiled is scored all the same."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch.testing import assert_close

from diet_ray.data.batch import Batch
from diet_ray.models.catalogue import ARCHITECTURES
from diet_ray.scoring.compiled import CompiledScorer, Scores
from diet_ray.scoring.prepare import prepare_scoring
from diet_ray.scoring.task import ScoreTask
from diet_ray.storage import Folder
from tests.influence.influence_model import random_batch
from tests.influence.per_row import network
from tests.scoring.scored_log import CONFIG, checkpoints_of, log_with_test_tail
from tests.scoring.test_row_scores import scored_model, scorer

NUM_ROWS = 24
needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"
)


@pytest.fixture
def not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs what would be compiled as it was recorded: what remains to be wrong is recording."""

    def as_it_is(program: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        return program

    monkeypatch.setattr(torch, "compile", as_it_is)


@pytest.mark.usefixtures("not_compiled")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_recorded_of_some_rows_scores_others(architecture: str):
    block = random_batch(30, seed=2)
    score = scorer([scored_model(network(architecture), block)], block)
    compiled = CompiledScorer(score, NUM_ROWS, exact=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled(random_batch(NUM_ROWS, seed=1))
    rows = random_batch(NUM_ROWS, seed=3)
    found, expected = compiled(rows), score(rows)
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert_close(found[name], values, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.usefixtures("not_compiled")
def test_batches_of_another_size_go_uncompiled():
    asked: list[int] = []

    def score(batch: Batch) -> Scores:
        asked.append(len(batch))
        return {"error": batch.label.abs()}

    compiled = CompiledScorer(score, NUM_ROWS, exact=True)
    rows = random_batch(NUM_ROWS + 1, seed=1)
    compiled(rows[:NUM_ROWS])
    asked.clear()
    assert torch.equal(compiled(rows[1:])["error"], rows.label[1:].abs())
    assert asked == []
    assert torch.equal(compiled(rows)["error"], rows.label.abs())
    assert asked == [NUM_ROWS + 1]


def asks_for_values(batch: Batch) -> Scores:
    return {"error": batch.label if bool(batch.label.any()) else batch.label + 1}


def goes_another_way(batch: Batch) -> Scores:
    return {"error": torch.from_numpy(batch.label.numpy() * 2)}


@pytest.mark.usefixtures("not_compiled")
@pytest.mark.parametrize(
    ("score", "reason"),
    [
        (asks_for_values, "depends on a tensor's values"),
        (goes_another_way, "`error` comes out different"),
    ],
)
def test_what_cannot_be_compiled_is_said_once_and_scored(
    score: Callable[[Batch], Scores], reason: str
):
    compiled = CompiledScorer(score, NUM_ROWS, exact=True)
    rows = random_batch(NUM_ROWS, seed=1)
    with pytest.warns(UserWarning, match=f"^scores aren't compiled: .*{reason}"):
        assert torch.equal(compiled(rows)["error"], score(rows)["error"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(compiled(rows)["error"], score(rows)["error"])


@needs_compiler
def test_a_log_is_scored_by_a_compiled_program(tmp_path: Path):
    log = log_with_test_tail(tmp_path / "log")
    shard = log.train_stages[0].shards[0]
    found = []
    few = replace(CONFIG, scores=("loss", "full"), batch_size=32)
    for compile_scores in (False, True):
        folder = tmp_path / f"scores-{compile_scores}"
        config = replace(few, compile=compile_scores)
        scoring = prepare_scoring(log, checkpoints_of(log)[1:], config, Folder.at(folder))
        task = ScoreTask(lambda scoring=scoring: scoring)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "scores aren't compiled")
            task(shard)
        (file,) = folder.glob("stage=*/*.parquet")
        found.append(pq.read_table(file).to_pandas())
    plain, compiled = found
    assert list(plain) == list(compiled)
    for name in few.scores:
        assert compiled[name].to_numpy() == pytest.approx(plain[name].to_numpy(), rel=1e-4)
