from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from diet_ray.data.batch import Batch
from diet_ray.influence import aggregate as module
from diet_ray.influence.aggregate import Aggregate, aggregate, similarity, sketch_position
from diet_ray.influence.gradients import row_gradients
from tests.influence.influence_model import TinyModel, autograd_gradients, random_batch

EXACT, SKETCHED = 9, 4
"""Buckets for the largest vocabulary, and too few for any."""


def of(model: TinyModel, batch: Batch, buckets: int) -> Aggregate:
    return aggregate(model.table, row_gradients(model, batch, batch.label), buckets)


def test_sums_equal_autograd_while_ids_fit_the_buckets(model: TinyModel, batch: Batch):
    total = autograd_gradients(model, batch, batch.label).sum(0)
    found = of(model, batch, EXACT)
    assert found.num_rows == len(batch)
    assert_close(found.last_layer, total[:6], rtol=1e-6, atol=1e-12)
    assert_close(found.embedding.flatten(), total[6:], rtol=1e-6, atol=1e-12)


def test_parts_add_up_to_the_whole(model: TinyModel, batch: Batch):
    whole = of(model, batch, SKETCHED)
    parts = of(model, batch[:7], SKETCHED) + of(model, batch[7:], SKETCHED)
    assert parts.num_rows == whole.num_rows
    assert_close(parts.last_layer, whole.last_layer)
    assert_close(parts.embedding, whole.embedding)
    # Three vocabularies of 4 buckets at most.
    assert whole.embedding.shape == (12, 4)


def test_similarity_is_the_inner_product_with_the_mean_gradient(model: TinyModel, batch: Batch):
    slots = random_batch(9, seed=3)
    target = torch.linspace(-0.3, 1.2, 9, dtype=torch.float64)
    mean = autograd_gradients(model, batch, batch.label).mean(0)
    expected = autograd_gradients(model, slots, target) @ mean
    found = similarity(model, slots, target, of(model, batch, EXACT))
    assert_close(found, expected, rtol=1e-6, atol=1e-12)


def test_without_buckets_similarity_is_that_of_the_last_layer(model: TinyModel, batch: Batch):
    slots = random_batch(9, seed=3)
    mean = autograd_gradients(model, batch, batch.label).mean(0)[:6]
    expected = autograd_gradients(model, slots, slots.label)[:, :6] @ mean
    forward = row_gradients(model, batch, batch.label, "last_layer")
    found = similarity(model, slots, slots.label, aggregate(model.table, forward, 0))
    assert_close(found, expected, rtol=1e-6, atol=1e-12)


def test_a_sketch_is_unbiased(model: TinyModel, batch: Batch, monkeypatch: pytest.MonkeyPatch):
    slots = random_batch(9, seed=3)
    exact = similarity(model, slots, slots.label, of(model, batch, EXACT))
    found = []
    for seed in range(600):
        monkeypatch.setattr(module, "_SKETCH_SEED", seed)
        found.append(similarity(model, slots, slots.label, of(model, batch, SKETCHED)))
    estimates = torch.stack(found)
    error = estimates.std(0) / len(found) ** 0.5
    assert (error > 0).all()
    assert ((estimates.mean(0) - exact).abs() < 4 * error).all()


def test_positions_stay_within_their_vocabulary_and_are_spread_evenly(model: TinyModel):
    watched, tags = model.features.sequence
    features = replace(
        model.features,
        num_ids=(7, 50_000),
        sequence=(replace(watched, num_ids=50_000), tags),
    )
    table = TinyModel(features).table
    # Every id of `item`, in the target's column and in the history's.
    rows = torch.zeros(50_000, len(table.offsets), dtype=torch.int64) + table.offsets
    rows[:, 1] += torch.arange(50_000)
    rows[:, 2] += torch.arange(50_000)
    bucket, sign = sketch_position(table, rows, 100)
    assert (bucket[:, 1] == bucket[:, 2]).all()
    assert (sign[:, 1] == sign[:, 2]).all()
    assert (sign[:, 0] == 0).all()
    counts = np.bincount(bucket[:, 1].numpy(), minlength=207)
    # `user` has 7 buckets, its ids; then 100 of `item`, 500 ids each, SD 22.
    assert counts[:7].sum() == 0
    assert counts[107:].sum() == 0
    assert 400 < counts[7:107].min() < counts[7:107].max() < 600
    # SD of a sum of signs: 224.
    assert abs(sign[1:, 1].sum()) < 900
    assert sign[0, 1] == 0
