"""What a run of scoring works out once, before any shard: directions, preconditioners, coverage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from diet_ray.data.batch import Batch
from diet_ray.data.log import PreparedLog
from diet_ray.errors import ConfigError, DataError
from diet_ray.influence.coverage import coverage_of
from diet_ray.influence.direction import mean_gradient, preconditioner
from diet_ray.influence.gradients import row_gradients
from diet_ray.influence.leverage import whitening
from diet_ray.influence.projection import project
from diet_ray.scoring.checkpoint import Checkpoint
from diet_ray.scoring.config import NEEDS_FEATURES, NEEDS_MOMENTS, NEEDS_VALIDATION, ScoreConfig
from diet_ray.scoring.row_scores import ScoredModel, reach_of_all
from diet_ray.scoring.task import PackedModel, Scoring
from diet_ray.search.sampling import even_positions, take_rows
from diet_ray.storage import Folder


def prepare_scoring(
    log: PreparedLog, checkpoints: Sequence[Checkpoint], config: ScoreConfig, folder: Folder
) -> Scoring:
    """All that the scorers need, with the files of scores below `folder`.

    Raises `ConfigError` for a checkpoint that can't give one of the scores, `DataError` if the log
    lacks the rows for one. Warns of parameters without a closed form.
    """
    validation = validation_rows(log, config) if config.needs(NEEDS_VALIDATION) else None
    reference = reference_rows(log, config) if config.needs(NEEDS_FEATURES) else None
    packed: list[PackedModel] = []
    whiten: np.ndarray | None = None
    for checkpoint in checkpoints:
        scored = _scored(log, checkpoint, config, validation)
        fallback: tuple[str, ...] = ()
        if reach_of_all(config.scores) == "all":
            first = log.train_stages[0]
            rows = take_rows(log, (first,), even_positions(first.num_rows, 64))
            fallback = coverage_of(scored.model, rows).fallback
        packed.append(PackedModel.of(checkpoint.candidate, scored, fallback))
        if checkpoint is checkpoints[-1] and reference is not None and "leverage" in config.scores:
            whiten = _whitening(scored, reference, config)
    return Scoring(log=log, models=tuple(packed), whitening=whiten, config=config, folder=folder)


def validation_rows(log: PreparedLog, config: ScoreConfig) -> Batch:
    """Evenly spaced rows of the test tail's first half. Raises `DataError` if there is none."""
    half = log.num_test_rows // 2
    if half == 0:
        raise DataError(
            f"{log.path}: the log has no test rows, so there is nothing that `validation` could "
            "be influence on: set aside a test tail, or leave that score out"
        )
    return take_rows(log, log.test_stages, even_positions(half, config.validation_rows))


def reference_rows(log: PreparedLog, config: ScoreConfig) -> Batch:
    """Evenly spaced rows of the training part."""
    positions = even_positions(log.num_train_rows, config.reference_rows)
    return take_rows(log, log.train_stages, positions)


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


def _whitening(scored: ScoredModel, rows: Batch, config: ScoreConfig) -> np.ndarray:
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
    return whitening(features).numpy()
