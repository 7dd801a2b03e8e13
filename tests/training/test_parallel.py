"""One run spread over workers: one worker's result, whoever is killed; and early stop."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
import torch
from ray.train import WorkerGroupError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
from torch import nn

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.data.log import PreparedLog, Shard
from diet_ray.errors import ClusterError, ConfigError, DataError, OutputError
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.catalogue import ARCHITECTURES, Candidate, build
from diet_ray.models.layers import BatchPart, Dropout
from diet_ray.models.lr import LR
from diet_ray.scoring.checkpoint import Checkpoint
from diet_ray.search.evaluation import evaluate, evaluation_rows
from diet_ray.search.workers import WorkersConfig
from diet_ray.training.config import TrainConfig
from diet_ray.training.loop import FitResult, fit, predict
from diet_ray.training.metrics import auc
from diet_ray.training.optimizer import ClickOptimizer
from diet_ray.training.parallel import (
    MODEL,
    PeerLost,
    Peers,
    SharedStep,
    Trained,
    TrainPart,
    TrainWork,
    digest,
    part_of,
    training_rows,
)
from diet_ray.training.train_run import RESULT, TrainResult, _lost, train_parallel
from tests.search.candidates import BROKEN
from tests.training.watched_log import (
    CANDIDATES,
    CONFIG,
    NUM_TRAIN_ROWS,
    SEED,
    SHARD_ROWS,
    VICTIM,
    WORKERS,
    WatchedLog,
    log_of,
)

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parallel")


@pytest.fixture(scope="module", autouse=True)
def quick_polls() -> Iterator[None]:
    """Ray Train looks after its workers, and for their end, more often than every two seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.3")
        yield


@pytest.fixture(scope="module")
def log(folder: Path) -> PreparedLog:
    return log_of(folder / "log")


@pytest.fixture(scope="module")
def undisturbed(folder: Path, log: PreparedLog, ray_cluster: None) -> Path:
    """The candidate `dnn` trained by two workers."""
    train_parallel(CANDIDATES["dnn"], log, SEED, CONFIG, folder / "undisturbed", WORKERS)
    return folder / "undisturbed"


def fitted(name: str, log: PreparedLog) -> tuple[Recommender, FitResult]:
    """What one process makes of a candidate."""
    candidate = CANDIDATES[name]
    model = build(candidate, log.features, SEED)
    rows = log.batches(log.train_stages)
    return model, fit(model, rows, candidate.optimizer, candidate.batch_size)


def weights(out: Path, log: PreparedLog) -> dict[str, torch.Tensor]:
    return Checkpoint.load(out / MODEL, log.features).model(log.features).state_dict()


def figures(out: Path) -> dict[str, Any]:
    """train.json without what the clock says."""
    content = json.loads((out / RESULT).read_text())
    return {k: v for k, v in content.items() if k not in ("seconds", "rows_per_s")}


def work_of(log: PreparedLog, out: Path, config: TrainConfig, name: str = "dnn") -> TrainWork:
    return TrainWork(
        candidate=CANDIDATES[name], log=log, seed=SEED, config=config, out=out, rows=None
    )


def alone(work: TrainWork) -> Trained:
    """A run in this process."""
    trained = TrainPart(work, Peers()).run()
    assert trained is not None
    return trained


@pytest.mark.parametrize("num_workers", [1, 2, 3, 5])
def test_parts_are_all_rows_in_order_and_of_even_size(num_workers: int) -> None:
    for num_rows in range(12):
        parts = [range(num_rows)[part_of(num_rows, k, num_workers)] for k in range(num_workers)]
        assert [row for part in parts for row in part] == list(range(num_rows))
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_masks_of_parts_are_those_of_the_whole(name: str, log: PreparedLog) -> None:
    """Of every architecture: however wide, and whatever shape dropout works on."""
    candidate = Candidate(
        name=name, architecture=name, embedding_size=4, hidden_sizes=(8,), dropout=0.5
    )
    batch = next(log.batches(log.train_stages))[:7]

    def logits(parts: Sequence[slice]) -> torch.Tensor:
        found = []
        for rows in parts:
            model = build(candidate, log.features, seed=1)
            for module in model.modules():
                if isinstance(module, Dropout) and len(parts) > 1:
                    module.part = BatchPart(rows, len(batch))
            found.append(model(batch[rows]).detach())
        return torch.cat(found)

    whole = logits([slice(0, 7)])
    torch.testing.assert_close(logits([slice(0, 3), slice(3, 7)]), whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("span", [(0, 10), (0, 5), (2, 5), (4, 4), (3, 10), (9, 10), (5, 5)])
def test_training_rows_read_the_shards_that_they_need(
    span: tuple[int, int], tmp_path: Path, log: PreparedLog
) -> None:
    first, stop = (SHARD_ROWS * x // 2 for x in span)
    watched = WatchedLog.of(log, tmp_path / "out", "wait")
    watched.marker.touch()
    found = list(training_rows(watched, first, stop))
    expected = log.load(log.train_stages)[first:stop]
    assert sum(len(b) for b in found) == len(expected)
    if found:
        assert torch.equal(torch.cat([b.label for b in found]), expected.label)
        assert torch.equal(torch.cat([b.numeric for b in found]), expected.numeric)
    reads = watched.reads.read_text().splitlines() if watched.reads.exists() else []
    shards = range(first // SHARD_ROWS, -(-stop // SHARD_ROWS)) if stop > first else []
    assert [int(line.split()[1]) for line in reads] == list(shards)


@pytest.mark.parametrize("name", CANDIDATES)
def test_one_worker_is_fit_bit_for_bit(name: str, tmp_path: Path, log: PreparedLog) -> None:
    model, expected = fitted(name, log)
    trained = alone(work_of(log, tmp_path, CONFIG, name))
    assert trained.loss_curve == expected.loss_curve
    assert trained.state.num_steps == expected.num_steps
    for key, value in weights(tmp_path, log).items():
        assert torch.equal(value, model.state_dict()[key]), key


def test_two_workers_are_one_up_to_rounding(log: PreparedLog, undisturbed: Path) -> None:
    _assert_close(undisturbed, "dnn", log)


def test_two_workers_are_one_up_to_rounding_with_histories(
    tmp_path: Path, log: PreparedLog, ray_cluster: None
) -> None:
    train_parallel(CANDIDATES["din"], log, SEED, CONFIG, tmp_path / "out", WORKERS)
    _assert_close(tmp_path / "out", "din", log)


def _assert_close(out: Path, name: str, log: PreparedLog) -> None:
    model, expected = fitted(name, log)
    found = figures(out)
    assert found["num_workers"] == 2
    assert found["num_rows"] == expected.num_rows == NUM_TRAIN_ROWS
    assert found["num_steps"] == expected.num_steps
    assert [rows for rows, _ in found["loss_curve"]] == [rows for rows, _ in expected.loss_curve]
    # The model has learned, so that a run that went another way would be far off.
    assert found["loss_curve"][-1][1] < 0.6 < found["loss_curve"][0][1]
    for (_, loss), (_, own) in zip(found["loss_curve"], expected.loss_curve, strict=True):
        assert loss == pytest.approx(own, rel=1e-5)
    for key, value in weights(out, log).items():
        torch.testing.assert_close(value, model.state_dict()[key], rtol=1e-3, atol=1e-4)
    rows = evaluation_rows(log, CONFIG.evaluation_rows)
    own_figures = dataclasses.asdict(evaluate(model, rows))
    for key in ("auc", "logloss", "regret_auc", "regret_logloss"):
        assert found["evaluation"][key] == pytest.approx(own_figures[key], rel=1e-3)


def test_a_killed_worker_changes_no_bit(
    tmp_path: Path, log: PreparedLog, undisturbed: Path
) -> None:
    watched = WatchedLog.of(log, tmp_path / "out", "kill")
    train_parallel(CANDIDATES["dnn"], watched, SEED, CONFIG, watched.out, WORKERS)
    assert watched.marker.exists()
    assert figures(watched.out) == figures(undisturbed)
    assert (watched.out / MODEL).read_bytes() == (undisturbed / MODEL).read_bytes()
    _assert_resumed(watched)


def test_a_killed_driver_goes_on_to_the_same_bits(
    tmp_path: Path, log: PreparedLog, undisturbed: Path
) -> None:
    watched = WatchedLog.of(log, tmp_path / "out", "wait")
    script = Path(__file__).with_name("watched_log.py")
    address = ray.get_runtime_context().gcs_address
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    driver = subprocess.Popen(
        [sys.executable, script, tmp_path / "log", watched.out, address], env=environment, cwd=ROOT
    )
    try:
        limit_s = time.monotonic() + 1800
        while not any((watched.out / "checkpoints").glob("0*")):
            assert driver.poll() is None
            assert time.monotonic() < limit_s
            time.sleep(0.02)
    finally:
        driver.kill()
        driver.wait()
    assert not (watched.out / RESULT).exists()
    with pytest.raises(OutputError, match="holds a training run of another seed"):
        train_parallel(CANDIDATES["dnn"], log, SEED + 1, CONFIG, watched.out, WORKERS)
    # Its workers end with it, not at once. Then the victim is read like any other shard.
    _wait_for_the_end({int(line.split()[0]) for line in watched.reads.read_text().splitlines()})
    _forget_the_killed_run()
    watched.marker.touch()
    train_parallel(CANDIDATES["dnn"], watched, SEED, CONFIG, watched.out, WORKERS)
    assert figures(watched.out) == figures(undisturbed)
    assert (watched.out / MODEL).read_bytes() == (undisturbed / MODEL).read_bytes()
    _assert_resumed(watched)


def _forget_the_killed_run() -> None:
    """Its claim on CPUs outlives it by three minutes, in which no pool of later tests grows."""
    name = "AutoscalingCoordinator"
    ray.kill(ray.get_actor(name, namespace=name), no_restart=False)


def _wait_for_the_end(processes: set[int]) -> None:
    deadline = time.monotonic() + 120
    while any(map(_runs, processes)):
        assert time.monotonic() < deadline, f"some of {processes} still run"
        time.sleep(0.02)


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def _assert_resumed(watched: WatchedLog) -> None:
    """The first two workers began at the first shard, the others at a checkpoint after it."""
    first_of: dict[str, int] = {}
    for line in watched.reads.read_text().splitlines():
        process, shard = line.split()
        if int(shard) < 6:
            first_of.setdefault(process, int(shard))
    begun = list(first_of.values())
    assert begun[:2] == [0, 0]
    assert len(begun) == 4
    assert all(1 <= shard <= VICTIM for shard in begun[2:])


def test_a_finished_run_is_read(
    log: PreparedLog, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("diet_ray.training.train_run._train", refuse)
    free = replace(CONFIG, checkpoint_every_rows=5, max_failures=9)
    result = train_parallel(CANDIDATES["dnn"], log, SEED, free, undisturbed, WORKERS)
    assert isinstance(result, TrainResult)
    assert json.loads((undisturbed / RESULT).read_text())["evaluation"]["auc"] == (
        result.evaluation.auc if result.evaluation else None
    )


def test_another_run_is_refused(tmp_path: Path, log: PreparedLog, undisturbed: Path) -> None:
    dnn = CANDIDATES["dnn"]
    for what, candidate, other, seed, config in (
        ("candidate", replace(dnn, dropout=0.1), log, SEED, CONFIG),
        ("log", dnn, replace(log, fingerprint="other"), SEED, CONFIG),
        ("seed", dnn, log, SEED + 1, CONFIG),
        ("epochs", dnn, log, SEED, replace(CONFIG, epochs=2)),
        ("validation_share", dnn, log, SEED, replace(CONFIG, validation_share=0.1)),
    ):
        with pytest.raises(OutputError, match=f"of another {what}: choose"):
            train_parallel(candidate, other, seed, config, undisturbed, WORKERS)
    (tmp_path / "mine.txt").touch()
    with pytest.raises(OutputError, match="holds no training run"):
        train_parallel(dnn, log, SEED, CONFIG, tmp_path, WORKERS)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_cluster_too_small_is_refused(
    tmp_path: Path, log: PreparedLog, ray_cluster: None
) -> None:
    with pytest.raises(ClusterError, match="needs 3 CPUs but the cluster has 2"):
        train_parallel(CANDIDATES["dnn"], log, SEED, CONFIG, tmp_path, WorkersConfig(num_workers=3))


def test_a_candidate_that_fails_is_not_tried_for_ever(
    tmp_path: Path, log: PreparedLog, ray_cluster: None
) -> None:
    config = replace(CONFIG, max_failures=1_000)
    with pytest.raises(ConfigError, match="candidate `broken`: RuntimeError: no such luck"):
        train_parallel(BROKEN, log, SEED, config, tmp_path / "out")


EARLY = TrainConfig(
    epochs=9, validation_share=0.3, patience=2, batch_size=64, checkpoint_every_rows=500
)


def by_hand(log: PreparedLog, num_epochs: int) -> list[tuple[float, dict[str, torch.Tensor]]]:
    """AUC on the last 30 % of the training rows and weights after each epoch on the others."""
    rows = log.load(log.train_stages)
    num_train = math.ceil(0.7 * len(rows))
    candidate = CANDIDATES["dnn"]
    model = build(candidate, log.features, SEED)
    optimizer = ClickOptimizer(model, candidate.optimizer)
    found = []
    for _ in range(num_epochs):
        fit(model, [rows[:num_train]], optimizer, 64)
        score = auc(rows.label[num_train:], predict(model, rows[num_train:]))
        found.append((score, {k: v.clone() for k, v in model.state_dict().items()}))
    return found


def test_early_stop_keeps_the_best_epoch(tmp_path: Path, log: PreparedLog) -> None:
    trained = alone(work_of(log, tmp_path, EARLY))
    num_epochs, best = trained.state.epoch, trained.state.best_epoch
    expected = by_hand(log, num_epochs)
    aucs = [score for score, _ in expected]
    # It is a case in which all three differ: the best epoch, the last one, the last possible one.
    assert best is not None
    assert 1 <= best < num_epochs < EARLY.epochs
    assert trained.state.validation_auc == pytest.approx(aucs, rel=1e-12)
    assert aucs.index(max(aucs)) + 1 == best == num_epochs - EARLY.patience
    for key, value in weights(tmp_path, log).items():
        assert torch.equal(value, expected[best - 1][1][key]), key


class Own(LR):
    """A model of somebody's own."""


def test_early_stop_of_a_model_of_ones_own(tmp_path: Path, log: PreparedLog) -> None:
    work = work_of(log, tmp_path, EARLY)
    own = replace(work.candidate, architecture=f"{__name__}:Own")
    assert alone(replace(work, candidate=own)).state.best_epoch is not None
    kept = Checkpoint.load(tmp_path / MODEL, log.features, own)
    assert isinstance(kept.model(log.features), Own)


class BreaksOff(PreparedLog):
    """Raises at the n-th shard that is read."""

    def read_shard(self, shard: Shard, columns: Sequence[str] | None = None) -> pa.Table:
        global _reads_left
        _reads_left -= 1
        if _reads_left < 0:
            raise DataError("broken off")
        return super().read_shard(shard, columns)


_reads_left = 0


def test_wherever_it_breaks_off_early_stop_ends_the_same(tmp_path: Path, log: PreparedLog) -> None:
    global _reads_left
    undisturbed = alone(work_of(log, tmp_path / "whole", EARLY))
    breaking = BreaksOff(**{f.name: getattr(log, f.name) for f in dataclasses.fields(log)})
    out, num_breaks = tmp_path / "broken", 0
    trained = None
    while trained is None:
        # A checkpoint lies within every two shards.
        _reads_left = 4 + num_breaks % 3
        try:
            trained = alone(work_of(breaking, out, EARLY))
        except DataError:
            num_breaks += 1
        assert num_breaks < 100
    assert num_breaks > 5
    assert replace(trained.state, seconds=0) == replace(undisturbed.state, seconds=0)
    assert trained.loss_curve == undisturbed.loss_curve
    assert (out / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()
    names = sorted(p.name for p in (out / "checkpoints").iterdir())
    assert len(names) == 4
    assert [n.startswith("best-") for n in names] == [False, False, True, True]


def test_the_checkpoint_before_stands_in_for_one_that_cannot_be_read(
    tmp_path: Path, log: PreparedLog
) -> None:
    alone(work_of(log, tmp_path, CONFIG))
    model = (tmp_path / MODEL).read_bytes()
    *_, newest = sorted((tmp_path / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-7])
    (tmp_path / MODEL).unlink()
    seen: list[int] = []
    TrainPart(work_of(log, tmp_path, CONFIG), Peers(), on_rows=lambda n, _: seen.append(n)).run()
    assert seen[0] == 2800
    assert (tmp_path / MODEL).read_bytes() == model


class OwnParts(LR):
    """With parts that torch keeps, and not this package."""

    def __init__(self, features: FeatureSpec) -> None:
        super().__init__(features)
        self.dropout = nn.Dropout(0.5)

    def head(self, gathered: torch.Tensor, batch: Batch) -> HeadOutput:
        return super().head(self.dropout(gathered), batch)


class MixedRows(OwnParts):
    def __init__(self, features: FeatureSpec) -> None:
        super().__init__(features)
        self.norm = nn.BatchNorm1d(3)


def own(name: str) -> Candidate:
    return Candidate(name=name, architecture=f"{__name__}:{name}", batch_size=35)


def test_a_resumed_run_draws_what_modules_of_torch_would_have_drawn(
    tmp_path: Path, log: PreparedLog
) -> None:
    global _reads_left
    breaking = BreaksOff(**{f.name: getattr(log, f.name) for f in dataclasses.fields(log)})
    works = [
        replace(work_of(rows, tmp_path / name, CONFIG), candidate=own("OwnParts"))
        for name, rows in (("whole", log), ("broken", breaking))
    ]
    alone(works[0])
    _reads_left = 4
    with pytest.raises(DataError, match="broken off"):
        alone(works[1])
    _reads_left = 99
    torch.manual_seed(5)
    alone(works[1])
    assert (works[1].out / MODEL).read_bytes() == (works[0].out / MODEL).read_bytes()


def test_a_model_that_mixes_rows_is_for_one_worker(tmp_path: Path, log: PreparedLog) -> None:
    model = build(own("MixedRows"), log.features, SEED)
    optimizer = ClickOptimizer(model, own("MixedRows").optimizer)
    SharedStep(model, optimizer, Peers())
    with pytest.raises(ConfigError, match="batch normalisation mixes the rows"):
        SharedStep(model, optimizer, Peers(1, 2))


class Answering(Peers):
    """One of two processes, that hears given answers."""

    def __init__(self, *answers: list[torch.Tensor]) -> None:
        super().__init__(0, 2)
        self._answers = iter(answers)

    def _all(self, values: torch.Tensor) -> list[torch.Tensor]:
        return next(self._answers)


def test_processes_agree_on_equal_digests_alone() -> None:
    own, other = torch.tensor([7, 8]), torch.tensor([7, 9])
    peers = Answering([own, own.clone()], [own, other], [other, own])
    assert [peers.agree(own) for _ in range(3)] == [True, False, False]


class Disagreeing(Peers):
    def agree(self, values: torch.Tensor) -> bool:
        return False


def test_workers_that_drift_apart_are_an_error(tmp_path: Path, log: PreparedLog) -> None:
    part = TrainPart(work_of(log, tmp_path, CONFIG), Disagreeing())
    with pytest.raises(ClusterError, match=r"after 700 rows the workers' models differ"):
        part.run()
    assert not (tmp_path / "checkpoints").exists()


def test_the_cause_is_what_ended_a_worker_not_that_others_lost_it(
    tmp_path: Path, log: PreparedLog
) -> None:
    work = work_of(log, tmp_path, CONFIG)
    left = UserExceptionWithTraceback(PeerLost("closed"), "Traceback …\nPeerLost: closed")
    killed = RuntimeError("\n  The worker died of hunger.\nMore of it")
    both = WorkerGroupError("two failed", {0: left, 1: killed})
    assert str(_lost(both, work)) == (
        "candidate `dnn`: workers died more than 3 times, the last: The worker died of hunger.; "
        "start again to go on from the last checkpoint"
    )
    assert "the last: PeerLost: closed; start" in str(_lost(WorkerGroupError("", {0: left}), work))
    assert "the last: no room; start" in str(_lost(RuntimeError("no room"), work))
    assert "the last: no message; start" in str(_lost(RuntimeError(), work))


def test_the_digest_sees_the_last_bit_of_weights_and_moments(
    tmp_path: Path, log: PreparedLog
) -> None:
    part = TrainPart(work_of(log, tmp_path, CONFIG), Peers())
    proxy = part._proxy
    before = digest(proxy, "cpu")
    assert torch.equal(before, digest(proxy, "cpu"))
    changes: list[Callable[[], torch.Tensor]] = [
        lambda: proxy.model.output.bias.data,
        lambda: proxy.model.table.weight.data[-1],
        lambda: proxy.optimizer.state_dict()["table.weight.exp_avg_sq"][-1],
        lambda: proxy.optimizer.state_dict()["step"].view(1),
    ]
    for tensor in changes:
        tensor()[-1] = torch.nextafter(tensor()[-1], torch.tensor(9.0))
        after = digest(proxy, "cpu")
        assert not torch.equal(before, after)
        before = after


def test_a_diverged_run_says_so(tmp_path: Path, log: PreparedLog) -> None:
    work = work_of(log, tmp_path, CONFIG)
    part = TrainPart(work, Peers())
    with torch.no_grad():
        part._proxy.model.output.bias.fill_(float("inf"))
    with pytest.raises(DataError, match="`dnn`: the loss is not finite after 700 rows"):
        part.run()
