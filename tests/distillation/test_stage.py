"""What a stage makes of its winners."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from diet_ray.data.batch import FeatureSpec, SequenceSpec
from diet_ray.distillation.stage import propose_slots
from diet_ray.influence.aggregate import Aggregate
from diet_ray.influence.shard_scores import StageScores
from diet_ray.memory.slots import with_columns
from tests.distillation.small_log import NUM_STRATA, encoded_rows

FEATURES = FeatureSpec(
    categorical=("user", "item"),
    num_ids=(20, 10),
    numeric=("price",),
    sequence=(SequenceSpec(name="seen", max_length=3, target="item", num_ids=10),),
)


def scores(winners: pa.Table) -> StageScores:
    """Of a stage that these rows won, all with a weight, an influence and a key of 1."""
    for name in ("_influence", "_key", "_weight"):
        winners = winners.append_column(name, pa.array(np.ones(winners.num_rows)))
    return StageScores(
        winners=winners,
        aggregate=Aggregate(
            num_rows=6,
            last_layer=torch.zeros(1),
            embedding=torch.zeros(0, 1),
            sketch_buckets=0,
        ),
        rows_by_stratum=np.zeros(NUM_STRATA, np.int64),
        score_by_stratum=np.zeros(NUM_STRATA),
    )


def test_a_residual_is_the_label_minus_a_probability_that_never_saw_it() -> None:
    three, four = math.log(3), math.log(4)
    stage = with_columns(
        encoded_rows(100, 6, 10),
        {
            "_label": np.array([0, 1, 0, 1, 1, 0]),
            "price": np.array([9, three, -three, 9, three, three]),
        },
    )
    added = propose_slots(
        scores(stage.take([1, 2, 4, 5])),
        honest_logits=np.array([7, 7, 7, 7, four, -four], np.float32),
        held_out=np.array([False, True, True, False, False, False]),
        first_row=100,
        predict_after=lambda batch: batch.numeric[:, 0],
        features=FEATURES,
        stage=3,
        next_slot=40,
    )
    assert added["_row"].to_pylist() == [101, 102, 104, 105]
    assert added["_slot"].to_pylist() == [40, 41, 42, 43]
    assert added["_birth_stage"].to_pylist() == [3] * 4
    assert added["_soft_label"].to_pylist() == pytest.approx([three, -three, three, three])
    # Held out: 1 - 3/4 and 0 - 1/4; trained on: 1 - 4/5 and 0 - 1/5.
    assert added["_residual"].to_pylist() == pytest.approx([0.25, -0.25, 0.2, -0.2])
