"""What a run of scoring works out once, before any shard: directions, preconditioners, coverage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from diet_ray.data.batch import Batch
from diet_ray.data.log import PreparedLog, Stage
from diet_ray.errors import ConfigError, DataError
from diet_ray.influence.coverage import NUM_CHECKED_ROWS, coverage_of
from diet_ray.influence.direction import mean_gradient, preconditioner
from diet_ray.influence.gradients import row_gradients
from diet_ray.influence.leverage import whitening
from diet_ray.influence.projection import project
from diet_ray.scoring.checkpoint import Checkpoint
from diet_ray.scoring.config import NEEDS_MOMENTS, NEEDS_VALIDATION, ScoreConfig
from diet_ray.scoring.row_scores import ScoredModel, reach_of_all
from diet_ray.scoring.task import PackedModel, Scoring
from diet_ray.search.sampling import Positions, even_positions, take_rows
from diet_ray.storage import Folder

_MAX_REFERENCE_SHARDS = 64
"""Bounds what is read on the driver, however long the log."""


def prepare_scoring(
    log: PreparedLog, checkpoints: Sequence[Checkpoint], config: ScoreConfig, folder: Folder
) -> Scoring:
    """All that the scorers need, with the files of scores below `folder`.

    Raises `ConfigError` for a checkpoint that can't give one of the scores, `DataError` if the log
    lacks the rows for one. Warns of parameters without a closed form.
    """
    validation = validation_rows(log, config) if config.needs(NEEDS_VALIDATION) else None
    reference = reference_rows(log, config) if "leverage" in config.scores else None
    checked = _checked_rows(log, config) if reach_of_all(config.scores) == "all" else None
    packed: list[PackedModel] = []
    whiten: np.ndarray | None = None
    for checkpoint in checkpoints:
        scored = _scored(log, checkpoint, config, validation)
        fallback = () if checked is None else coverage_of(scored.model, checked).fallback
        packed.append(PackedModel.of(checkpoint.candidate, scored, fallback))
        if checkpoint is checkpoints[-1] and reference is not None:
            whiten = _whitening(scored, reference, config, checkpoint.name)
    return Scoring(log=log, models=tuple(packed), whitening=whiten, config=config, folder=folder)


def validation_rows(log: PreparedLog, config: ScoreConfig) -> Batch:
    """Evenly spaced rows of the test tail's first half. Raises `DataError` if there is none."""
    half = log.num_test_rows // 2
    if half == 0:
        raise DataError(
            f"{log.path}: the log has too few test rows for `validation` to be influence on: set "
            "aside a test tail (`test_fraction`), or leave that score out"
        )
    return _taken(log, log.test_stages, even_positions(half, config.validation_rows), config)


def reference_rows(log: PreparedLog, config: ScoreConfig) -> Batch:
    """Evenly spaced rows of the training part, of a few shards if it has many."""
    shards = [shard for stage in log.train_stages for shard in stage.shards]
    kept = tuple(shards[i] for i in even_positions(len(shards), _MAX_REFERENCE_SHARDS))
    num_rows = sum(shard.num_rows for shard in kept)
    stage = replace(log.train_stages[0], shards=kept, num_rows=num_rows)
    return _taken(log, (stage,), even_positions(num_rows, config.reference_rows), config)


def _checked_rows(log: PreparedLog, config: ScoreConfig) -> Batch:
    """What closed forms are proved on."""
    positions = even_positions(log.num_train_rows, NUM_CHECKED_ROWS)
    return _taken(log, log.train_stages, positions, config)


def _taken(
    log: PreparedLog, stages: tuple[Stage, ...], positions: Positions, config: ScoreConfig
) -> Batch:
    skips = config.on_bad_shard == "skip"
    return take_rows(log, stages, positions, skip_unreadable=skips)


def _scored(
    log: PreparedLog, checkpoint: Checkpoint, config: ScoreConfig, validation: Batch | None
) -> ScoredModel:
    if checkpoint.candidate.without_fields:
        raise ConfigError(
            f"{checkpoint.name}: without_fields: scores are taken under models that see every field"
        )
    model = checkpoint.model(log.features).requires_grad_(False).eval()
    moments = None
    if config.needs(NEEDS_MOMENTS):
        moments = checkpoint.moments_for(model)
        if moments is None:
            raise ConfigError(
                f"{checkpoint.name}: has no second moments of Adam, which `adam_self_influence` "
                "and `adam_validation` need: leave them out"
            )
    return ScoredModel(
        model=model,
        learning_rate=checkpoint.candidate.learning_rate,
        validation=None if validation is None else mean_gradient(model, validation),
        preconditioner=None if moments is None else preconditioner(moments),
    )


def _whitening(scored: ScoredModel, rows: Batch, config: ScoreConfig, name: str) -> np.ndarray:
    parts = [rows[i : i + config.batch_size] for i in range(0, len(rows), config.batch_size)]
    features = torch.cat(
        [
            project(
                row_gradients(scored.model, part, part.label, "all"),
                config.feature_size,
                config.seed,
            )
            for part in parts
        ]
    )
    if not bool(torch.isfinite(features).all()):
        raise DataError(
            f"{name}: gradients are not finite: the training has diverged, or a numeric field has "
            "extreme values; take an earlier checkpoint, or leave `leverage` out"
        )
    return whitening(features).numpy()
