from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from diet_ray.data.encoding import to_batch
from diet_ray.errors import DataError
from diet_ray.influence.config import InfluenceConfig
from diet_ray.influence.reservoir import Reservoir
from diet_ray.influence.shard_scores import (
    ShardScores,
    StageScores,
    clip_factors,
    merge,
    score_shard,
)
from diet_ray.models.catalogue import Candidate, build
from diet_ray.training.loop import predict
from tests.influence.influence_model import FEATURES, TinyModel, autograd_gradients
from tests.influence.small_log import NUM_STRATA, random_rows

RESERVOIR = Reservoir(allocation=(5, 7, 3, 4), defensive_share=0.5, seed=2)
CONFIG = InfluenceConfig(batch_size=64)


@pytest.fixture
def proxy(model: TinyModel) -> TinyModel:
    return model.float().requires_grad_(False)


def score(
    model: TinyModel, table: pa.Table, config: InfluenceConfig = CONFIG, of: Reservoir = RESERVOIR
) -> ShardScores:
    return score_shard(model, FEATURES, table, config, of)


def same(a: StageScores, b: StageScores) -> bool:
    return a.winners.equals(b.winners) and a.num_rows == b.num_rows


def test_scores_keys_and_sums_are_those_of_the_rows(proxy: TinyModel):
    table = random_rows(150, 1000, seed=0)
    everything = Reservoir(allocation=(150,) * NUM_STRATA, defensive_share=0.5, seed=2)
    shard = score(proxy, table, of=everything)
    assert shard.candidates.drop_columns(["_influence", "_key"]).equals(table)

    batch = to_batch(table, FEATURES)
    gradients = autograd_gradients(proxy.requires_grad_(), batch, batch.label)
    influence = shard.candidates["_influence"].to_numpy()
    np.testing.assert_allclose(influence, gradients.norm(dim=1).numpy(), rtol=1e-4)
    key = everything.influence_clock(table["_row"].to_numpy(), influence)
    assert (shard.candidates["_key"].to_numpy() == key).all()

    stratum = table["_stratum"].to_numpy()
    assert shard.rows_by_stratum.tolist() == np.bincount(stratum, minlength=4).tolist()
    for s in range(NUM_STRATA):
        assert shard.score_by_stratum[s] == pytest.approx(influence[stratum == s].sum(), rel=1e-6)
    total = gradients.sum(0)
    assert torch.allclose(shard.aggregate.last_layer, total[:6], rtol=1e-4, atol=1e-5)
    assert torch.allclose(shard.aggregate.embedding.flatten(), total[6:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["error", "last_layer", "embedding", "gradient"])
@pytest.mark.parametrize("buckets", [0, 4])
def test_every_score_with_and_without_the_sketch(proxy: TinyModel, kind: str, buckets: int):
    config = replace(CONFIG, score=kind, sketch_buckets=buckets)
    shard = score(proxy, random_rows(80, 0, seed=0), config)
    assert shard.aggregate.embedding.shape == (3 * buckets, 4)
    assert (shard.candidates["_influence"].to_numpy() > 0).all()


def test_only_rows_that_can_win_are_sent(proxy: TinyModel):
    shard = score(proxy, random_rows(300, 0, seed=0))
    assert shard.candidates.num_rows == sum(n + 2 for n in RESERVOIR.allocation)


def test_winners_of_a_stage_do_not_depend_on_its_shards(proxy: TinyModel):
    parts = [random_rows(n, first, seed=0) for n, first in [(90, 0), (1, 90), (140, 91)]]
    whole = pa.concat_tables(parts)
    # One batch each: the bits of a score may depend on the size of its batch.
    one_by_one = replace(CONFIG, batch_size=1)
    at_once = merge([score(proxy, whole, one_by_one)], RESERVOIR)
    scored = [score(proxy, p, one_by_one) for p in parts]
    apart = merge(scored, RESERVOIR)
    assert same(apart, at_once)
    assert same(merge(scored[::-1], RESERVOIR), at_once)
    assert (apart.rows_by_stratum == at_once.rows_by_stratum).all()
    np.testing.assert_allclose(apart.score_by_stratum, at_once.score_by_stratum)
    assert torch.allclose(apart.aggregate.embedding, at_once.aggregate.embedding)
    assert apart.aggregate.embedding.dtype == torch.float64

    winners = apart.winners
    assert winners.num_rows == sum(RESERVOIR.allocation)
    assert (np.diff(winners["_row"].to_numpy()) > 0).all()
    masses = np.bincount(winners["_stratum"].to_numpy(), weights=winners["_weight"].to_numpy())
    np.testing.assert_allclose(masses, apart.rows_by_stratum, rtol=1e-12)
    assert apart.mean_influence == pytest.approx(apart.score_by_stratum.sum() / 231)


def test_bytes_give_back_equal_bits(proxy: TinyModel):
    shard = score(proxy, random_rows(70, 0, seed=0))
    data = shard.to_bytes()
    back = ShardScores.from_bytes(data)
    assert back.candidates.equals(shard.candidates)
    assert (back.rows_by_stratum == shard.rows_by_stratum).all()
    assert (back.score_by_stratum == shard.score_by_stratum).all()
    assert torch.equal(back.aggregate.last_layer, shard.aggregate.last_layer)
    assert torch.equal(back.aggregate.embedding, shard.aggregate.embedding)
    assert back.aggregate.num_rows == 70
    assert back.aggregate.sketch_buckets == CONFIG.sketch_buckets
    assert back.to_bytes() == data


def test_a_proxy_that_diverged_is_named(proxy: TinyModel):
    proxy.output.bias.data.fill_(float("nan"))
    with pytest.raises(DataError, match="proxy has diverged"):
        score(proxy, random_rows(70, 0, seed=0))


def test_no_row_outweighs_all_others():
    proxy = build(Candidate(name="dnn", architecture="dnn", hidden_sizes=(8,)), FEATURES, seed=0)
    table = random_rows(600, 0, seed=3)
    age, label = (table[name].to_numpy().copy() for name in ("age", "_label"))
    age[77] = 1e6
    hostile = table.set_column(table.column_names.index("age"), "age", pa.array(age))
    # The label that the model is surest of not to come.
    label[77] = float(predict(proxy, to_batch(hostile, FEATURES))[77] < 0)
    hostile = hostile.set_column(table.column_names.index("_label"), "_label", pa.array(label))
    everything = Reservoir(allocation=(600,) * NUM_STRATA, defensive_share=0.0, seed=2)
    config = replace(CONFIG, batch_size=600)

    plain = score(proxy, table, config, everything)
    clipped = score(proxy, hostile, config, everything)
    unclipped = score(proxy, hostile, replace(config, clip_ratio=1e12), everything)
    assert (plain.num_clipped, clipped.num_clipped, unclipped.num_clipped) == (0, 1, 0)

    influence = clipped.candidates["_influence"].to_numpy()
    others = np.delete(influence, 77)
    assert influence[77] == pytest.approx(10 * np.sort(influence)[592], rel=1e-4)
    assert np.array_equal(others, np.delete(plain.candidates["_influence"].to_numpy(), 77))
    # Without the limit, the row is all that is left of the stage's gradient.
    assert unclipped.aggregate.last_layer.norm() > 1e3 * plain.aggregate.last_layer.norm()
    assert clipped.aggregate.last_layer.norm() < 20 * plain.aggregate.last_layer.norm()

    found = ShardScores.from_bytes(clipped.to_bytes())
    assert found.num_clipped == 1
    assert merge([found, plain], everything).num_clipped == 1


@pytest.mark.parametrize(
    ("scores", "clipped"),
    [
        ([], []),
        ([0.0, 0.0], [0.0, 0.0]),
        ([1.0], [1.0]),
        ([1.0, 50.0], [1.0, 10.0]),
        # 99 % of the rows have no gradient: the others are compared with each other.
        ([0.0] * 300 + [1.0, 2.0, 900.0], [0.0] * 300 + [1.0, 2.0, 10.0]),
    ],
)
def test_scores_are_clipped_by_hand(scores: list[float], clipped: list[float]):
    found = torch.tensor(scores)
    assert (found * clip_factors(found, 10.0)).tolist() == pytest.approx(clipped)
