"""What a distillation would take, before it is started: measured on the log's first rows.

No cluster is needed and nothing is written. The first rows are read, encoded, trained on and scored
in this process; the rest is proportion. Vocabularies grow as V(n) = V(s)·(n/s)^b (Heaps), where b
is seen between half of the sample and all of it.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from diet_ray.data.encoding import NUM_STRATA, Encoder, features_of, to_batch
from diet_ray.data.raw.clock import DAY_US
from diet_ray.data.rows import TIMESTAMP
from diet_ray.data.schema import Schema
from diet_ray.data.sources.base import Source
from diet_ray.data.sources.open import open_source
from diet_ray.distillation.config import DistillConfig
from diet_ray.distillation.proxy import Proxies
from diet_ray.influence.reservoir import Reservoir
from diet_ray.influence.shard_scores import score_shard
from diet_ray.models.catalogue import build

SAMPLE_ROWS = 40_000
TRAINED_ROWS = 8_192
"""Of the sample; the first steps of a process are slow, so a few are taken before."""
START_S = 12.0
"""Starting Ray, scorers and memory."""
STAGE_S = 0.4
"""Refinement and commit, whatever a stage's rows."""
BASE_BYTES = 600 * 1024**2
"""Of a process that has loaded torch and Ray, without data."""
VOCABULARY_BYTES = 200
"""Of a value in the encoder: itself, its id, its count, and the way to them."""
COPIES = 3
"""Of a proxy's table: weights, second moments, and the copy that a stage is addressed under."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """On the sample. Speeds are rows a second of one process."""

    num_rows: int
    num_sample_rows: int
    days: float
    """That the sample spans."""
    prepare_rows_per_s: float
    train_rows_per_s: float
    """All proxies, side by side."""
    score_rows_per_s: float
    bytes_per_row: float
    """Encoded, on disk or in memory."""
    num_values: dict[str, int]
    num_values_of_half: dict[str, int]
    """Distinct values by field: in all of the sample, and in its first half."""
    bytes_per_value: dict[str, int]
    """Of the proxies' tables and of the encoder."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    num_rows: int
    num_train_rows: int
    num_stages: int
    num_slots: int
    prepare_s: float
    distill_s: float
    total_s: float
    memory_bytes: int
    """Of the driver."""
    disk_bytes: int


def dry_run(config: DistillConfig, num_cpus: int) -> Estimate:
    """Raises what `distill` would raise of the source, schema and first rows."""
    torch.set_num_threads(1)
    schema = Schema.load(config.schema)
    with tempfile.TemporaryDirectory() as scratch:
        source = open_source(config.source, schema, Path(scratch))
        measured = measure(source, schema, config)
    return estimate(measured, config, num_cpus)


def measure(source: Source, schema: Schema, config: DistillConfig) -> Measured:
    """Reads `SAMPLE_ROWS` of the source, trains on some and scores them."""
    begin_s = time.perf_counter()
    rows = _first(source, SAMPLE_ROWS)
    if source.sort:
        rows = rows.sort_by(TIMESTAMP)
    encoder = Encoder(schema)
    parts: list[pa.Table] = []
    values: list[dict[str, int]] = []
    for start, stop in pairwise((0, rows.num_rows // 2, rows.num_rows)):
        coded = encoder.code(rows.slice(start, stop - start), learn=True)
        encoder.end_stage(learn=True)
        size = {"first_row": start, "stage_offset": 0, "stage_rows": coded.num_rows}
        parts.append(encoder.encode(coded, **size))
        values.append(encoder.num_ids)
    encoded = pa.concat_tables(parts).combine_chunks()
    prepared_s = time.perf_counter() - begin_s

    features = features_of(schema, encoder.num_ids)
    proxies = Proxies(config.proxies, features, config.seed)
    some = encoded.slice(0, min(TRAINED_ROWS, encoded.num_rows))
    batch = to_batch(some, features)
    warm, timed = batch[: len(batch) // 4], batch[len(batch) // 4 :]
    for part in (warm, timed):
        begin_s = time.perf_counter()
        held_out = torch.zeros(len(part), dtype=torch.bool)
        proxies.train_stage(lambda part=part: [part], held_out)  # type: ignore[misc]
    train_s = time.perf_counter() - begin_s

    model = build(config.lead, features, seed=0)
    strata = np.bincount(some["_stratum"].to_numpy(), minlength=NUM_STRATA)
    budget = config.budget.drawn(0, some.num_rows, int(np.count_nonzero(strata)))
    reservoir = Reservoir.of_stage(
        tuple(strata.tolist()), budget, config.influence.defensive_share, config.seed
    )
    begin_s = time.perf_counter()
    score_shard(model, features, some, config.influence, reservoir)
    score_s = time.perf_counter() - begin_s

    widths = sum(p.model.table.weight.shape[1] for p in proxies.all)
    time_us = rows[TIMESTAMP].to_numpy()
    return Measured(
        num_rows=sum(s.num_rows for s in source.shards),
        num_sample_rows=rows.num_rows,
        days=float(time_us.max() - time_us.min()) / DAY_US,
        prepare_rows_per_s=rows.num_rows / prepared_s,
        train_rows_per_s=len(timed) / train_s,
        score_rows_per_s=some.num_rows / score_s,
        bytes_per_row=encoded.nbytes / encoded.num_rows,
        num_values=values[1],
        num_values_of_half=values[0],
        bytes_per_value=dict.fromkeys(values[1], 4 * COPIES * widths + VOCABULARY_BYTES),
    )


def estimate(measured: Measured, config: DistillConfig, num_cpus: int) -> Estimate:
    """The whole log, in proportion to what was measured."""
    m = measured
    num_train = m.num_rows - round(config.stages.test_fraction * m.num_rows)
    stages = config.stages
    num_stages = math.ceil(num_train / stages.rows) if stages.rows is not None else 1
    if stages.by == "day":
        rows_per_day = m.num_sample_rows / max(m.days, m.num_sample_rows / m.num_rows)
        num_stages = max(num_stages, math.ceil(num_train / rows_per_day))
    prepare_s = m.num_rows / m.prepare_rows_per_s
    # All free CPUs but one score while the driver trains; on a single one they take turns.
    num_scorers = max(1, num_cpus - 1)
    scoring_s = num_train / m.score_rows_per_s / num_scorers
    training_s = num_train / m.train_rows_per_s
    passes_s = max(training_s, scoring_s) if num_cpus > 1 else training_s + scoring_s
    distill_s = passes_s + STAGE_S * num_stages
    values = {f: grown(m, f, num_train) for f in m.num_values}
    tables = sum(n * m.bytes_per_value[f] for f, n in values.items())
    num_slots = config.budget.capacity(num_train)
    shards = 2 * stages.shard_rows * m.bytes_per_row
    return Estimate(
        num_rows=m.num_rows,
        num_train_rows=num_train,
        num_stages=num_stages,
        num_slots=num_slots,
        prepare_s=prepare_s,
        distill_s=distill_s,
        total_s=START_S + prepare_s + distill_s,
        memory_bytes=round(BASE_BYTES + tables + shards + 3 * num_slots * m.bytes_per_row),
        disk_bytes=round(m.num_rows * m.bytes_per_row + tables),
    )


def grown(measured: Measured, field: str, num_rows: int) -> int:
    """Distinct values of a field in so many rows."""
    all_, half = measured.num_values[field], measured.num_values_of_half[field]
    exponent = min(1.0, max(0.0, math.log2(all_ / half)))
    return round(all_ * (max(num_rows, 1) / measured.num_sample_rows) ** exponent)


def _first(source: Source, num_rows: int) -> pa.Table:
    return pa.concat_tables(_up_to(source, num_rows)).combine_chunks()


def _up_to(source: Source, num_rows: int) -> Iterator[pa.Table]:
    for shard in source.shards:
        for table in source.read(shard):
            yield table.slice(0, num_rows)
            num_rows -= table.num_rows
            if num_rows <= 0:
                return
