"""Scores find labels that are known to be wrong, better than chance and no better than possible."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.flipped_labels import (
    CEILING,
    FLIPPED_SHARE,
    LOGS,
    SCORED,
    detection,
    flipped_log,
)
from diet_ray.models.catalogue import Candidate
from diet_ray.scoring.config import ScoreConfig

CANDIDATE = Candidate(
    name="scored",
    architecture="dnn",
    embedding_size=8,
    hidden_sizes=(32, 16),
    learning_rate=3e-3,
    batch_size=128,
)


def test_flipped_labels_are_found(tmp_path: Path, ray_cluster: None) -> None:
    settings = replace(
        LOGS["strong signal"], num_rows=40_000, num_users=60, num_items=60, num_categories=10
    )
    flipped = flipped_log(settings, tmp_path)
    log = flipped.log
    assert log.num_train_rows == len(flipped.is_flipped) == len(flipped.true_loss) == 36_000
    assert flipped.is_flipped.sum() == round(FLIPPED_SHARE * 36_000)
    # Labels that were flipped, and no others, are what the true probability finds surprising.
    assert np.median(flipped.true_loss[flipped.is_flipped]) > 1.5
    assert np.median(flipped.true_loss[~flipped.is_flipped]) < 0.5
    config = ScoreConfig(scores=SCORED, num_scorers=1)
    found = detection(flipped, CANDIDATE, 2, config, tmp_path)
    assert set(found) == {*SCORED, CEILING}
    assert found[CEILING] > 0.9
    assert found[CEILING] > max(found[name] for name in SCORED)
    assert found["loss"] > 0.75
    for name in ("error", "last_layer", "full", "self_influence", "adam_self_influence"):
        assert found[name] > 0.65, name
