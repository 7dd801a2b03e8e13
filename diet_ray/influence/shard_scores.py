"""One shard's contribution to a stage, and what a stage makes of its shards.

A shard is scored in batches cut within it, so its result depends on its rows and the model alone.
It holds the few rows that can still win, sums, and the aggregate gradient; never the shard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from diet_ray.data.batch import FeatureSpec
from diet_ray.data.encoding import to_batch
from diet_ray.errors import DataError
from diet_ray.influence.aggregate import Aggregate, aggregate, similarity
from diet_ray.influence.config import InfluenceConfig
from diet_ray.influence.gradients import row_gradients
from diet_ray.influence.reservoir import Reservoir
from diet_ray.influence.scores import influence, reach_of
from diet_ray.models.base import Recommender

__all__ = ["ShardScores", "StageScores", "merge", "score_shard", "similarity"]


@dataclass(frozen=True, kw_only=True)
class ShardScores:
    candidates: pa.Table
    """Encoded rows that can win, in order, with `_influence` (float32) and `_key` (float64)."""
    rows_by_stratum: np.ndarray
    """int64"""
    score_by_stratum: np.ndarray
    """float64: sums of scores."""
    aggregate: Aggregate
    num_clipped: int = 0
    """Rows whose score was clipped."""

    @property
    def num_rows(self) -> int:
        return self.aggregate.num_rows

    def to_bytes(self) -> bytes:
        """One Arrow IPC stream; `from_bytes` gives back equal bits."""
        a = self.aggregate
        columns = {
            "candidates": pa.array([_ipc(self.candidates)], pa.large_binary()),
            "rows_by_stratum": _one(self.rows_by_stratum),
            "score_by_stratum": _one(self.score_by_stratum),
            "last_layer": _one(a.last_layer.numpy()),
            "embedding": _one(a.embedding.flatten().numpy()),
            "embedding_width": pa.array([a.embedding.shape[1]]),
            "sketch_buckets": pa.array([a.sketch_buckets]),
            "num_rows": pa.array([a.num_rows]),
            "num_clipped": pa.array([self.num_clipped]),
        }
        return _ipc(pa.table(columns))

    @classmethod
    def from_bytes(cls, data: bytes | pa.Buffer) -> ShardScores:
        row = pa.ipc.open_stream(data).read_all()
        arrays = {
            name: row[name][0].values.to_numpy().copy()
            for name in ("rows_by_stratum", "score_by_stratum", "last_layer", "embedding")
        }
        return cls(
            candidates=pa.ipc.open_stream(row["candidates"][0].as_buffer()).read_all(),
            rows_by_stratum=arrays["rows_by_stratum"],
            score_by_stratum=arrays["score_by_stratum"],
            num_clipped=row["num_clipped"][0].as_py(),
            aggregate=Aggregate(
                num_rows=row["num_rows"][0].as_py(),
                last_layer=torch.from_numpy(arrays["last_layer"]),
                embedding=torch.from_numpy(arrays["embedding"]).view(
                    -1, row["embedding_width"][0].as_py()
                ),
                sketch_buckets=row["sketch_buckets"][0].as_py(),
            ),
        )


@dataclass(frozen=True, kw_only=True)
class StageScores:
    winners: pa.Table
    """Encoded rows in order, with `_influence`, `_key` and `_weight` (float64): the mass that each
    stands for, adding up to the rows of its stratum."""
    aggregate: Aggregate
    """In float64."""
    rows_by_stratum: np.ndarray
    score_by_stratum: np.ndarray
    num_clipped: int = 0
    """Rows whose score was clipped."""
    num_bytes: int = 0
    """What the scorers sent."""

    @property
    def num_rows(self) -> int:
        return self.aggregate.num_rows

    @property
    def mean_influence(self) -> float:
        return float(self.score_by_stratum.sum() / self.num_rows)


def score_shard(
    model: Recommender,
    features: FeatureSpec,
    table: pa.Table,
    config: InfluenceConfig,
    reservoir: Reservoir,
) -> ShardScores:
    """Scores the encoded rows `table` under `model`, on the model's device.

    Raises `DataError` if a score is not finite.
    """
    batch = to_batch(table, features)
    device = model.table.weight.device
    reach = reach_of(config.score)
    if config.sketch_buckets and reach == "last_layer":
        reach = "embedding"
    scores: list[torch.Tensor] = []
    total: Aggregate | None = None
    num_clipped = 0
    for i in range(0, len(batch), config.batch_size):
        part = batch[i : i + config.batch_size].to(device)
        gradients = row_gradients(model, part, part.label, reach)
        found = influence(model.table, gradients, config.score)
        factor = clip_factors(found, config.clip_ratio)
        num_clipped += int((factor < 1).sum())
        scores.append((found * factor).cpu())
        # A row's whole gradient is its residual times that of its logit.
        gradients = replace(gradients, residual=gradients.residual * factor)
        new = aggregate(model.table, gradients, config.sketch_buckets)
        total = new if total is None else total + new
    assert total is not None, "a shard has rows"
    score = torch.cat(scores).numpy().astype(np.float32)
    if not np.isfinite(score).all():
        raise DataError(
            "influence scores are not finite: the proxy has diverged; lower its learning rate, or "
            "look for extreme values among the numeric fields"
        )
    row, stratum = (table[c].to_numpy() for c in ("_row", "_stratum"))
    index = reservoir.candidates(row, stratum, score)
    num_strata = len(reservoir.allocation)
    candidates = table.take(pa.array(index)).combine_chunks()
    candidates = candidates.append_column("_influence", pa.array(score[index]))
    key = reservoir.influence_clock(row[index], score[index])
    return ShardScores(
        candidates=candidates.append_column("_key", pa.array(key)),
        rows_by_stratum=np.bincount(stratum, minlength=num_strata).astype(np.int64),
        score_by_stratum=np.bincount(stratum, weights=score, minlength=num_strata),
        aggregate=total,
        num_clipped=num_clipped,
    )


def clip_factors(scores: Tensor, ratio: float) -> Tensor:
    """What each of (B,) scores is to be multiplied with, so that none exceeds `ratio` times their
    99th percentile (of the positive ones, if that is zero).

    The percentile is an order statistic below the largest, so no single row sets its own limit.
    NaN stays NaN.
    """
    positive = scores[scores > 0]
    ones = torch.ones_like(scores)
    if not len(positive):
        return ones
    for values in (scores, positive):
        limit = ratio * values.kthvalue(max(1, int(0.99 * (len(values) - 1)))).values
        if bool(limit > 0):
            break
    return torch.where(scores > limit, limit / scores, ones)


def merge(shards: Sequence[ShardScores], reservoir: Reservoir, num_bytes: int = 0) -> StageScores:
    """What a stage's shards add up to. At least one is needed.

    Winners don't depend on the order of the shards; sums do in their last bits, so give them in
    the order of the log.
    """
    rows_by_stratum = np.sum([s.rows_by_stratum for s in shards], axis=0)
    total = shards[0].aggregate.double()
    score_by_stratum = shards[0].score_by_stratum
    for s in shards[1:]:
        total = total + s.aggregate.double()
        score_by_stratum = score_by_stratum + s.score_by_stratum
    rows = pa.concat_tables([s.candidates for s in shards])
    row, stratum, score = (rows[c].to_numpy() for c in ("_row", "_stratum", "_influence"))
    index, weight = reservoir.winners(row, stratum, score, rows_by_stratum)
    winners = rows.take(pa.array(index)).combine_chunks()
    return StageScores(
        winners=winners.append_column("_weight", pa.array(weight)),
        aggregate=total,
        rows_by_stratum=rows_by_stratum,
        score_by_stratum=score_by_stratum,
        num_clipped=sum(s.num_clipped for s in shards),
        num_bytes=num_bytes,
    )


def _ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _one(values: np.ndarray) -> pa.Array:
    """A list array of length 1."""
    return pa.LargeListArray.from_arrays(pa.array([0, len(values)]), pa.array(values))
