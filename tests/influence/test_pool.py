from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from diet_ray.data.log import Shard
from diet_ray.data.prepare import prepare
from diet_ray.data.schema import Schema
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.stages import StageConfig
from diet_ray.errors import ClusterError, ConfigError, DataError
from diet_ray.influence.config import InfluenceConfig
from diet_ray.influence.pool import ScoringPool
from diet_ray.influence.reservoir import Reservoir, allocate
from diet_ray.influence.shard_scores import ShardScores, StageScores, merge, score_shard
from diet_ray.models.catalogue import Candidate, build
from tests.influence.influence_model import FEATURES
from tests.influence.pool_tasks import VictimLog, kill_victim
from tests.influence.small_log import SmallLog, small_log
from tests.kuairand import SCHEMA, write_log

PROXY = Candidate(name="proxy", architecture="dnn", embedding_size=4, hidden_sizes=(8,))
CONFIG = InfluenceConfig(num_scorers=1, batch_size=32, defensive_share=0.5)
BUDGET = 12
SEED = 5
TIMEOUT_S = 300
NUM_FAULT_RUNS = int(os.environ.get("DIET_FAULT_RUNS", "2"))


def weights(stage: int) -> dict[str, torch.Tensor]:
    """Other weights for every stage, large enough to matter."""
    state = build(PROXY, FEATURES, seed=stage).state_dict()
    return {name: tensor * 5 for name, tensor in state.items()}


def pool(log: SmallLog, config: InfluenceConfig = CONFIG, budget: int = BUDGET) -> ScoringPool:
    budgets = {s.index: budget for s in log.stages}
    return ScoringPool(log, log.stages, PROXY, config, budgets, SEED)


def results(scoring: ScoringPool, stage: int, on_shard: Callable[[Shard], None] | None = None):
    """Fails instead of waiting for ever, should blocks be held back behind a closed gate."""
    waiter = ThreadPoolExecutor(1)
    try:
        return waiter.submit(scoring.results, stage, on_shard).result(TIMEOUT_S)
    finally:
        waiter.shutdown(wait=False)


def expected(log: SmallLog, stage: int) -> StageScores:
    """The same stage in this process."""
    model = build(PROXY, FEATURES, seed=0)
    model.load_state_dict(weights(stage))
    of = log.stages[stage]
    allocation = tuple(allocate(BUDGET, torch.tensor(of.strata).numpy()).tolist())
    reservoir = Reservoir(allocation=allocation, defensive_share=0.5, seed=SEED)
    parts = [
        score_shard(model, FEATURES, log.tables[s.index], CONFIG, reservoir) for s in of.shards
    ]
    return merge([ShardScores.from_bytes(p.to_bytes()) for p in parts], reservoir)


def assert_same(a: StageScores, b: StageScores) -> None:
    assert a.winners.equals(b.winners)
    assert torch.equal(a.aggregate.last_layer, b.aggregate.last_layer)
    assert torch.equal(a.aggregate.embedding, b.aggregate.embedding)
    assert (a.score_by_stratum == b.score_by_stratum).all()


def overwrite_row_group(path: Path, index: int) -> None:
    """Its bytes become zeros; the file's length and footer stay."""
    group = pq.ParquetFile(path).metadata.row_group(index)
    columns = [group.column(i) for i in range(group.num_columns)]
    start = min(c.dictionary_page_offset or c.data_page_offset for c in columns)
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(sum(c.total_compressed_size for c in columns)))


@pytest.mark.parametrize("num_scorers", [1, 2])
def test_stages_stream_through_one_execution(ray_cluster: None, num_scorers: int):
    log = small_log(((40, 30, 50), (60,), (35, 45)))
    seen: list[Shard] = []
    config = InfluenceConfig(num_scorers=num_scorers, batch_size=32, defensive_share=0.5)
    with pool(log, config) as scoring:
        for stage in log.stages:
            # All results of a stage come out while the next one is still closed.
            scoring.publish(stage.index, weights(stage.index))
            scores = results(scoring, stage.index, seen.append)
            assert_same(scores, expected(log, stage.index))
            assert scores.num_rows == stage.num_rows
            assert scores.num_bytes > 0
    assert sorted(s.index for s in seen) == list(range(6))


def test_stages_may_be_published_ahead_and_collected_later(ray_cluster: None):
    log = small_log(((40,), (30, 20)))
    with pool(log) as scoring:
        for stage in (1, 0):
            scoring.publish(stage, weights(stage))
        for stage in (1, 0):
            assert_same(results(scoring, stage), expected(log, stage))


@pytest.mark.parametrize("run", range(NUM_FAULT_RUNS))
def test_a_scorer_that_is_killed_changes_no_bit(ray_cluster: None, tmp_path: Path, run: int):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    log = small_log(((40, 30, 50, 20), (35, 25)))
    log = VictimLog(
        log.stages,
        log.tables,
        victim=rng.randrange(6),
        fifo=tmp_path / "victim",
        is_read_first=rng.random() < 0.5,
        # Otherwise the kill comes when it comes: while it scores, answers, or does another shard.
        waits=rng.random() < 0.7,
    )
    killer = kill_victim(log, lambda pid, node: os.kill(pid, signal.SIGKILL))
    with pool(log, InfluenceConfig(num_scorers=2, batch_size=32, defensive_share=0.5)) as scoring:
        for stage in (0, 1):
            seen: list[Shard] = []
            scoring.publish(stage, weights(stage))
            assert_same(results(scoring, stage, seen.append), expected(log, stage))
            assert sorted(s.index for s in seen) == [s.index for s in log.stages[stage].shards]
    killer.join(TIMEOUT_S)
    assert not killer.is_alive()


def test_a_shard_that_cannot_be_read_is_named(ray_cluster: None):
    log = small_log(((40, 30),), unreadable=1)
    with pool(log) as scoring:
        scoring.publish(0, weights(0))
        with pytest.raises(DataError, match=r"^stage-0.parquet: broken; prepare the log again$"):
            results(scoring, 0)
        with pytest.raises(DataError, match="stage-0"):
            results(scoring, 0)


def test_a_corrupt_file_is_named_with_its_rows(ray_cluster: None, tmp_path: Path):
    source = SourceConfig(paths=(str(write_log(tmp_path / "log.parquet", num_rows=900)),))
    stages = StageConfig(by="rows", rows=900, shard_rows=300)
    log = prepare(source, Schema.load(SCHEMA), stages, tmp_path / "log")
    stage = log.train_stages[0]
    overwrite_row_group(Path(log.path) / stage.shards[1].file, 1)
    proxy = build(PROXY, log.features_at(stage.index), seed=0)
    budgets = {stage.index: 2 * log.num_strata}
    with ScoringPool(log, (stage,), PROXY, CONFIG, budgets, SEED) as scoring:
        scoring.publish(stage.index, proxy.state_dict())
        with pytest.raises(DataError, match=rf"{stage.shards[1].file}, rows from 300: can't be"):
            results(scoring, stage.index)


def test_a_shard_that_cannot_be_scored_is_named(ray_cluster: None):
    log = small_log(((40,),))
    state = {name: tensor * float("nan") for name, tensor in weights(0).items()}
    with pool(log) as scoring:
        scoring.publish(0, state)
        with pytest.raises(DataError, match=r"stage-0.parquet, rows from 0: .*diverged"):
            results(scoring, 0)


def test_leaving_early_ends_the_execution(ray_cluster: None):
    log = small_log(((40, 30), (20,)))
    scoring = pool(log)

    def fail_in_a_stage() -> None:
        with scoring:
            scoring.publish(0, weights(0))
            assert scoring.is_running
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_in_a_stage()
    assert not scoring.is_running


def test_too_few_cpus_are_refused(ray_cluster: None):
    with (
        pytest.raises(ClusterError, match=r"influence scoring needs 3 CPUs .* has 2"),
        pool(small_log(((5,) * 6,)), InfluenceConfig(num_scorers=6)),
    ):
        pass


def test_a_budget_below_the_strata_is_refused():
    with pytest.raises(ConfigError, match=r"3 slots .* 4 strata"):
        pool(small_log(((40,),)), budget=3)


def test_no_stages_need_no_cluster():
    with ScoringPool(small_log(((4,),)), (), PROXY, CONFIG, {}, SEED) as scoring:
        assert not scoring.is_running
