"""The benchmark's references agree with what they are compared with, and its fit with its model."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from benchmarks.scoring.cost_model import CostModel, Run, busiest, fit
from benchmarks.scoring.encoded_log import regrouped, write_random_log
from benchmarks.scoring.features import features, random_batch
from benchmarks.scoring.kernels import CHUNK_SIZES, full_norms
from benchmarks.scoring.plain import score_shard
from benchmarks.scoring.timing import Contender, by_turns
from benchmarks.scoring.torch_func import torch_func_norms
from diet_ray.data.batch import Batch
from diet_ray.data.encoding import to_batch
from diet_ray.data.log import PreparedLog
from diet_ray.models.catalogue import ARCHITECTURES, Candidate, build

MODEL = CostModel(
    startup_s=4.0, rows_per_s=200_000.0, shard_overhead_s=0.02, driver_bytes_per_s=1e8
)


@pytest.mark.parametrize("with_history", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_torch_func_gives_the_same_norms(architecture: str, with_history: bool) -> None:
    spec = features(with_history=with_history)
    candidate = Candidate(name="x", architecture=architecture, embedding_size=2, hidden_sizes=(4,))
    model = build(candidate, spec, seed=0).double()
    rows = random_batch(spec, 6, seed=1)
    batch = Batch(rows.categorical, rows.numeric.double(), rows.sequence, rows.label.double())
    torch.testing.assert_close(
        full_norms(model, batch), torch_func_norms(model)(batch), rtol=1e-9, atol=0.0
    )


def test_contenders_take_their_own_rows_in_chunks() -> None:
    batch = random_batch(features(), 10, seed=0)
    seen: list[int] = []
    contenders = {
        "a": Contender(run=lambda b: seen.append(len(b)), num_rows=10, chunk_sizes=CHUNK_SIZES),
        "b": Contender(run=lambda b: sum(range(9_999)), num_rows=7, chunk_sizes=(3,)),
    }
    speeds = by_turns(contenders, batch, rounds=2)
    assert seen == [10, 10, 10]
    assert speeds["b"].chunk_rows == 3
    assert speeds["a"].over(speeds["b"]) > 0


def test_a_random_log_is_found_again_and_scored_shard_by_shard(tmp_path: Path) -> None:
    log = write_random_log(1_000, tmp_path / "log", num_stages=3, shard_rows=100)
    assert write_random_log(1_000, tmp_path / "log") == log == PreparedLog.open(log.path)
    fine = [log.read_shard(s) for stage in log.stages for s in stage.shards]
    coarse_log = regrouped(log, 4)
    coarse = [coarse_log.read_shard(s) for stage in coarse_log.stages for s in stage.shards]
    assert (len(fine), len(coarse)) == (12, 3)
    rows = [row for table in fine for row in table["_row"].to_pylist()]
    assert rows == list(range(1_000))
    assert rows == [row for table in coarse for row in table["_row"].to_pylist()]

    model = build(Candidate(name="dnn", architecture="dnn"), log.features, seed=0)
    shard = log.stages[1].shards[0]
    score_shard(model, log, shard, 64, tmp_path)
    written = pq.read_table(tmp_path / f"{shard.index:06d}.parquet")
    rows = to_batch(log.read_shard(shard), log.features)
    torch.testing.assert_close(torch.tensor(written["full"].to_numpy()), full_norms(model, rows))


def test_shards_go_to_whoever_is_free() -> None:
    assert busiest([3.5, 1.0, 1.0, 1.0, 1.0], 2) == [1, 2, 3, 4]
    assert busiest([1.0, 1.0, 1.0], 2) == [0, 2]


def test_a_fit_gives_the_numbers_back() -> None:
    runs = []
    for num_scorers in (1, 2):
        for rows, num_bytes in (((65_536,) * 24, 10**5), ((16_384,) * 90, 10**5), ((99,), 10**9)):
            seconds = MODEL.seconds(rows, num_scorers, num_bytes)
            runs.append(
                Run(
                    shard_rows=rows,
                    num_scorers=num_scorers,
                    num_bytes=num_bytes,
                    startup_s=3.0,
                    seconds=seconds - 3.0,
                )
            )
    found = fit(runs)
    assert found.startup_s == pytest.approx(MODEL.startup_s)
    assert found.rows_per_s == pytest.approx(MODEL.rows_per_s)
    assert found.shard_overhead_s == pytest.approx(MODEL.shard_overhead_s)
    assert found.driver_bytes_per_s == pytest.approx(MODEL.driver_bytes_per_s)
    assert found.predict(10**6, 2, 1e5, 10**5) == pytest.approx(4.0 + 5 * 1.02)


def test_a_driver_that_hands_out_slowly_bounds_many_scorers() -> None:
    slow = CostModel(
        startup_s=1.0,
        rows_per_s=1e5,
        shard_overhead_s=0.0,
        driver_bytes_per_s=1e9,
        dispatch_s=0.01,
        shard_bytes=10**6,
    )
    assert slow.predict(10**8, 1, 1e5, 10**5) == pytest.approx(1.0 + 1000.0 + 1.0)
    assert slow.predict(10**8, 1000, 1e5, 10**5) == pytest.approx(1.0 + 10.0 + 1.0)
