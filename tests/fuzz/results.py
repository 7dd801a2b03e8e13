"""Readers of figures: kept runs, trials, comparisons, scores."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import tempfile
from pathlib import Path

import torch

from diet_ray.data.log import PreparedLog
from diet_ray.models.catalogue import Candidate
from diet_ray.report.document import load_consistency
from diet_ray.report.page import render
from diet_ray.report.tables import print_summary
from diet_ray.scoring import score_log as score_log_module
from diet_ray.scoring.shard_file import read_summary
from diet_ray.scoring.tables import print_scored
from diet_ray.search.evaluation import Evaluation, EvaluationRows
from diet_ray.search.records import Records, TrialResult
from diet_ray.search.run_set import DistilledRows
from diet_ray.search.runs import RunResult, TrainingRows
from diet_ray.storage import Folder
from diet_ray.training.full_runs import read_result, write_result
from diet_ray.training.recipe import Recipe
from tests.distillation.small_log import small_log
from tests.fuzz import arrow_values, mutations
from tests.fuzz.reader import Reader, quiet
from tests.models.rows import FEATURES, random_batch
from tests.report.conftest import make_consistency, make_manifest
from tests.scoring.test_shard_file import write as write_scores


def run_result() -> RunResult:
    evaluation = Evaluation(
        auc=0.7, logloss=0.6, regret_auc=0.71, regret_logloss=0.61, block_auc=(0.7, None)
    )
    return RunResult(
        name="finalmlp-16",
        seed=0,
        evaluation=evaluation,
        train_seconds=1.0,
        evaluation_seconds=0.5,
        row_visits=100.0,
        num_steps=4,
        curve=((64, 0.7), (100, 0.65)),
        cpu_seconds=1.4,
    )


def _check_result(found: RunResult) -> None:
    assert 0 <= found.evaluation.auc <= 1
    assert isinstance(found.evaluation.logloss, float)
    assert 0 <= found.seconds < math.inf
    assert all(isinstance(rows, int) and isinstance(loss, float) for rows, loss in found.curve)


def _make_full_runs(folder: Path) -> None:
    write_result(Folder.at(folder), "abc.json", run_result())


def _read_full_runs(folder: Path, _: Path) -> None:
    found = read_result(Folder.at(folder), "abc.json")
    if found is not None:
        _check_result(found)


def _records(folder: Path) -> Records:
    batch = random_batch(4)
    ones = torch.ones(4)
    rows = DistilledRows(
        train=TrainingRows(batch, ones, ones),
        features=FEATURES,
        recipe=Recipe(),
        evaluation=EvaluationRows(batch, 2),
    )
    return Records(folder, rows, {"seeds": [0]})


def _make_records(folder: Path) -> None:
    records = _records(folder)
    for each in _distinct():
        run = dataclasses.replace(run_result(), name=each.name)
        records.add(TrialResult(candidate=each, runs=(run,), num_reports=1), 3.0)


@functools.cache
def _distinct() -> tuple[Candidate, ...]:
    return tuple(
        Candidate(name=f"lr-{size}", architecture="lr", batch_size=size) for size in (8, 16, 32)
    )


def _read_records(folder: Path, _: Path) -> None:
    records = _records(folder)
    for trial in (*records.finished(), *(records.known(c) for c in _distinct())):
        if trial is not None:
            assert trial.mean_auc is None or 0 <= trial.mean_auc <= 1
            for run in trial.runs:
                _check_result(run)
    assert 0 <= records.seconds(_distinct()) < math.inf


def _make_report(folder: Path) -> None:
    (folder / "consistency.json").write_text(json.dumps(make_consistency()))


def _read_report(folder: Path, _: Path) -> None:
    content = load_consistency(folder / "consistency.json")
    print_summary(content, quiet())


def _read_page(folder: Path, _: Path) -> None:
    content = load_consistency(folder / "consistency.json")
    page = render(content, make_manifest())
    page.encode()
    assert "<script" not in page.lower()


def _make_scores(folder: Path) -> None:
    log = _score_log()
    scores = Folder.at(folder / "scores")
    for shard in log.stages[0].shards:
        write_scores(log, scores, shard)
    about = {"log": "abc", "scores": ["loss"]}
    (folder / "score.json").write_text(json.dumps(about))
    row = {
        "row": 1, "score": 0.5, "time": "2022-04-08 16:00:00", "label": 1.0, "fields": {"user": "a"}
    }  # fmt: skip
    lists = {"helpful": [row], "harmful": []}
    (folder / "summary.json").write_text(json.dumps({"num_rows": 2, "lists": lists}))


@functools.cache
def _score_log() -> PreparedLog:
    return small_log(Path(tempfile.mkdtemp(prefix="fuzz-")) / "log", num_stages=2, shard_rows=9)


def _read_scores(folder: Path, _: Path) -> None:
    scores = Folder.at(folder / "scores")
    found = [read_summary(scores, s) for s in _score_log().stages[0].shards]
    total = found[0].merged(found[1], 5)
    about = {"log": "abc", "scores": ["loss"]}
    score_log_module._claim(Folder.at(folder), about)
    scored = score_log_module.ScoredLog(
        path=folder, summary=total, num_rows=1, skipped=(), seconds=1.0
    )
    print_scored(scored, quiet())


READERS = (
    Reader(name="full_runs", make=_make_full_runs, read=_read_full_runs, weight=8),
    Reader(name="records", make=_make_records, read=_read_records, weight=5,
           changes=mutations.change_lines),
    Reader(name="report", make=_make_report, read=_read_report, weight=5),
    # Draws a dozen plots.
    Reader(name="page", make=_make_report, read=_read_page, weight=0.15),
    Reader(name="scores", make=_make_scores, read=_read_scores, weight=5,
           changes=arrow_values.change_parquet),
)  # fmt: skip
