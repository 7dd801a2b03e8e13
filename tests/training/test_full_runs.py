"""Full-data runs on Ray Train: results, reuse, failures that name the candidate."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path

import pytest

from diet_ray.errors import ClusterError
from diet_ray.search import results
from diet_ray.search.evaluation import evaluation_rows
from diet_ray.search.runs import FullRunConfig, RunResult, full_run
from diet_ray.search.workers import WorkersConfig
from diet_ray.storage import Folder
from diet_ray.training.board import RunBoard
from diet_ray.training.full_runs import (
    FORMAT,
    RunFailure,
    cost,
    read_result,
    run_file,
    train_full,
)
from tests.search.candidates import BROKEN, CANDIDATES, DEADLY
from tests.search.memory_log import memory_log

LOG = memory_log()
ROWS = evaluation_rows(LOG, 400)
CONFIG = FullRunConfig()


def test_the_board_hands_out_every_run_once_and_remembers_who_runs_what() -> None:
    async def story() -> None:
        board = RunBoard(3)
        assert await board.take(0) == 0
        assert await board.take(1) == 1
        assert await board.running() == {0: 0, 1: 1}
        await board.deliver(1, {"error": "e"})
        assert await board.next_outcome() == (1, {"error": "e"})
        assert await board.running() == {0: 0}
        assert await board.take(1) == 2
        assert await board.running() == {0: 0, 1: 2}
        await board.deliver(0, {"auc": 1})
        assert await board.take(0) is None
        await board.deliver(1, {"auc": 2})
        await board.close()
        outcomes = [await board.next_outcome() for _ in range(3)]
        assert outcomes == [(0, {"auc": 1}), (2, {"auc": 2}), None]
        assert await board.running() == {}

    asyncio.run(story())


def test_the_file_follows_all_that_a_run_depends_on_but_the_name() -> None:
    dnn = CANDIDATES[2]

    def file(candidate=dnn, seed=0, log=LOG, rows=ROWS, config=CONFIG, use_gpu=False) -> str:
        return run_file(candidate, seed, log, rows, config, use_gpu)

    same = [file(), file(candidate=dataclasses.replace(dnn, name="other"))]
    other = [
        file(seed=1),
        file(candidate=dataclasses.replace(dnn, learning_rate=0.02)),
        file(candidate=dataclasses.replace(dnn, batch_size=64)),
        file(log=dataclasses.replace(LOG, fingerprint="another")),
        file(rows=evaluation_rows(LOG, 200)),
        file(config=FullRunConfig(epochs=2)),
        file(use_gpu=True),
    ]
    assert len({*same}) == 1
    assert len({*same, *other}) == 1 + len(other)


def test_longer_runs_cost_more() -> None:
    costs = [cost(c, LOG) for c in (CANDIDATES[2], CANDIDATES[3], CANDIDATES[0])]
    assert costs == sorted(costs, reverse=True)


def test_what_can_not_be_built_is_told_by_its_run() -> None:
    assert cost(dataclasses.replace(CANDIDATES[0], without_fields=("nowhere",)), LOG) == 0.0


def test_a_broken_result_file_counts_as_missing(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    assert read_result(folder, "a.json") is None
    for content in ("{", "[]", '{"format": 2}', '{"format": 2, "result": {"name": "x"}}'):
        (tmp_path / "a.json").write_text(content)
        assert read_result(folder, "a.json") is None
    kept = results.to_json(full_run(CANDIDATES[0], LOG, 0, ROWS, CONFIG))
    (tmp_path / "a.json").write_text(json.dumps({"format": FORMAT, "result": kept}))
    assert read_result(folder, "a.json") is not None
    (tmp_path / "a.json").write_text(json.dumps({"format": 0, "result": kept}))
    assert read_result(folder, "a.json") is None


def test_a_comparison_that_dies_keeps_its_runs_and_goes_on_where_it_stood(
    ray_cluster: None, tmp_path: Path
) -> None:
    seen: list[RunResult | RunFailure] = []
    seeds = (0, 1)

    # On one worker the deadly one, the smallest at the largest batch, comes last.
    candidates = (*CANDIDATES[:3], BROKEN, DEADLY)
    workers = WorkersConfig(num_workers=1)
    with pytest.raises(ClusterError, match=r"full run of `deadly` \(seed 0\): its worker died"):
        train_full(candidates, seeds, LOG, ROWS, CONFIG, tmp_path, workers, seen.append)
    # One model under two names was trained once; longest runs came first.
    assert [(r.name, r.seed) for r in seen] == [
        *[("dnn", 0), ("dnn", 1), ("lr", 0), ("lr", 1), ("broken", 0), ("broken", 1)]
    ]
    files = {p.name for p in (tmp_path / "full_runs").iterdir()}
    assert len(files) == 4

    (tmp_path / "full_runs" / run_file(CANDIDATES[2], 1, LOG, ROWS, CONFIG, False)).unlink()
    seen.clear()
    candidates = (*CANDIDATES[:4], BROKEN)

    def fail_once(outcome: RunResult | RunFailure) -> None:
        seen.append(outcome)
        if len(seen) == 1:
            raise OSError("the disk is full")

    # Whatever befalls one result, those that come later are kept.
    with pytest.raises(OSError, match="the disk is full"):
        train_full(candidates, seeds, LOG, ROWS, CONFIG, tmp_path, workers, fail_once)
    assert sorted((r.name, r.seed) for r in seen) == [
        *[("broken", 0), ("broken", 1)],
        *[("dnn", 1), ("dnn-small", 0), ("dnn-small", 1)],
    ]
    seen.clear()
    found = train_full(candidates, seeds, LOG, ROWS, CONFIG, tmp_path, workers, seen.append)
    assert sorted((r.name, r.seed) for r in seen) == [("broken", 0), ("broken", 1)]
    assert found.num_reused == 8
    assert found.failures == {"broken": "RuntimeError: no such luck"}
    assert set(found.results) == {(c.name, s) for c in CANDIDATES[:4] for s in seeds}
    for (name, seed), result in found.results.items():
        candidate = next(c for c in CANDIDATES if c.name == name)
        assert result.evaluation == full_run(candidate, LOG, seed, ROWS, CONFIG).evaluation
        assert (result.name, result.seed) == (name, seed)

    again = train_full(CANDIDATES[:4], seeds, LOG, ROWS, CONFIG, tmp_path)
    assert again.num_reused == 8
    assert again.results == found.results
    assert not again.failures


def test_a_cluster_too_small_is_refused(ray_cluster: None, tmp_path: Path) -> None:
    for workers in (
        WorkersConfig(num_workers=3),
        WorkersConfig(num_workers=1, cpus_per_worker=3),
        WorkersConfig(cpus_per_worker=3),
    ):
        with pytest.raises(ClusterError, match="needs 3 CPUs but the cluster has 2"):
            train_full(CANDIDATES[:2], (0,), LOG, ROWS, CONFIG, tmp_path, workers)
    with pytest.raises(ClusterError, match="has 0 GPUs"):
        train_full(CANDIDATES[:2], (0,), LOG, ROWS, CONFIG, tmp_path, WorkersConfig(use_gpu=True))
    assert not (tmp_path / "full_runs").exists()
