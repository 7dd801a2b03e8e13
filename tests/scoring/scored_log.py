"""A log on disk with a test tail, checkpoints to score it under, and what else scoring it needs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pds
import pyarrow.parquet as pq
import ray.cloudpickle
import torch

from diet_ray.data.encoding import to_batch
from diet_ray.data.log import PreparedLog, Shard
from diet_ray.influence.direction import mean_gradient, preconditioner
from diet_ray.influence.gradients import row_gradients
from diet_ray.influence.leverage import whitening
from diet_ray.influence.projection import project
from diet_ray.models.catalogue import Candidate, build
from diet_ray.scoring.checkpoint import Checkpoint
from diet_ray.scoring.config import RowScore, ScoreConfig
from diet_ray.scoring.prepare import reference_rows, validation_rows
from diet_ray.scoring.row_scores import RowScorer, ScoredModel
from diet_ray.scoring.score_log import SCORES
from tests.distillation.small_log import small_log

CANDIDATE = Candidate(
    name="scored", architecture="deepfm", embedding_size=4, hidden_sizes=(8,), learning_rate=0.01
)
CONFIG = ScoreConfig(
    scores=get_args(RowScore),
    validation_rows=50,
    reference_rows=60,
    feature_size=8,
    top=5,
    # Neither a shard's rows nor a stage's are a multiple.
    batch_size=32,
    num_scorers=2,
)


def log_with_test_tail(path: Path) -> PreparedLog:
    """Three stages of training rows and one of test rows, of two shards of 80 rows each."""
    return small_log(path, num_test_stages=1)


def checkpoints_of(log: PreparedLog) -> tuple[Checkpoint, ...]:
    """Two, of random weights; the first one knew fewer items."""
    found = []
    for i, stage in enumerate((log.train_stages[0], log.train_stages[-1])):
        features = log.features_at(stage.index)
        model = build(CANDIDATE, features, seed=i)
        g = torch.Generator().manual_seed(i)
        found.append(
            Checkpoint(
                name=f"checkpoint {i}",
                candidate=CANDIDATE,
                features=features,
                weights={n: 5 * w for n, w in model.state_dict().items()},
                second_moments={
                    n: torch.rand(p.shape, generator=g) for n, p in model.named_parameters()
                },
            )
        )
    return tuple(found)


def serial_scores(
    log: PreparedLog, checkpoints: Sequence[Checkpoint], config: ScoreConfig
) -> dict[RowScore, np.ndarray]:
    """Of all rows of the log, in this process."""
    models = []
    for checkpoint in checkpoints:
        model = checkpoint.model(log.features).eval().requires_grad_(False)
        moments = checkpoint.moments_for(model)
        assert moments is not None
        models.append(
            ScoredModel(
                model=model,
                learning_rate=checkpoint.candidate.learning_rate,
                validation=mean_gradient(model, validation_rows(log, config)),
                preconditioner=preconditioner(moments),
            )
        )
    reference = reference_rows(log, config)
    parts = [
        row_gradients(models[-1].model, part, part.label, "all")
        for part in (
            reference[i : i + config.batch_size]
            for i in range(0, len(reference), config.batch_size)
        )
    ]
    features = torch.cat([project(g, config.feature_size, config.seed) for g in parts])
    scorer = RowScorer(
        models,
        config.scores,
        num_features=config.feature_size,
        seed=config.seed,
        whitening=whitening(features),
    )
    found = []
    for shard in (s for stage in log.stages for s in stage.shards):
        batch = to_batch(log.read_shard(shard), log.features)
        size = config.batch_size
        found += [scorer(batch[i : i + size]) for i in range(0, len(batch), size)]
    return {name: torch.cat([part[name] for part in found]).numpy() for name in config.scores}


def table_of(out: Path) -> pa.Table:
    """All scores of a scored log, as any reader of Parquet sees them."""
    return pds.dataset(out / SCORES, partitioning="hive").to_table().combine_chunks()


def column_of(table: pa.Table, name: str) -> np.ndarray:
    """(B,), or (B, K) for lists."""
    column = table[name].combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        return column.flatten().to_numpy().reshape(len(table), -1)
    return column.to_numpy()


def files_of(out: Path) -> dict[str, bytes]:
    """Contents of the files of scores, by name."""
    return {
        str(p.relative_to(out)): p.read_bytes() for p in sorted((out / SCORES).rglob("*.parquet"))
    }


def overwrite_shard(log: PreparedLog, shard: Shard) -> None:
    """Its bytes in the log become zeros; the file's length and footer stay."""
    path = Path(log.path) / shard.file
    group = pq.ParquetFile(path).metadata.row_group(shard.first_row_group)
    columns = [group.column(i) for i in range(group.num_columns)]
    start = min(c.dictionary_page_offset or c.data_page_offset for c in columns)
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(sum(c.total_compressed_size for c in columns)))


@dataclass(frozen=True, kw_only=True)
class DeadlyLog(PreparedLog):
    """Kills the first other process than its maker's that reads the shard `victim`."""

    victim: int
    maker: int
    marker: Path

    @classmethod
    def of(cls, log: PreparedLog, victim: int, marker: Path) -> DeadlyLog:
        values = {f.name: getattr(log, f.name) for f in fields(log)}
        return cls(**values, victim=victim, maker=os.getpid(), marker=marker)

    def read_shard(self, shard: Shard, columns: Sequence[str] | None = None) -> pa.Table:
        if shard.index == self.victim and os.getpid() != self.maker and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read_shard(shard, columns)


# Workers don't have this folder on their path.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
