"""Encoded rows in memory: a real log, and a generated one with the fields of an advertising log."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from diet_ray.data.batch import NUM_RESERVED_IDS, Batch, FeatureSpec
from diet_ray.data.encoding import Encoder, features_of, to_batch
from diet_ray.data.schema import Schema
from diet_ray.data.selection import select_fields
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.sources.open import open_source

MOVIELENS_SCHEMA = Path(__file__).parents[2] / "examples" / "movielens" / "schema.yaml"
TEST_FRACTION = Fraction(1, 10)
HISTORY = "favourites"

ADVERTISING_IDS = (
    *(50,) * 13,
    *(1_400, 550, 16_000, 12_000, 300, 20, 1_200, 630, 5, 4_000, 500, 16_000, 320),
    *(30, 1_100, 15_000, 12, 460, 200, 5, 15_500, 20, 18, 5_300, 80, 4_000),
)
"""Ids by field: 13 numeric fields in bins, and 26 categorical ones with about a tenth of the ids
that Criteo's have, as a log of a tenth of its length would."""
CROSS_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Training and test rows, both in the order of time."""

    features: FeatureSpec
    train: Batch
    test: Batch

    def first(self, num_train_rows: int) -> Rows:
        """For a try."""
        return replace(self, train=self.train[:num_train_rows])

    def last(self, num_train_rows: int) -> Rows:
        """The training rows right before the test."""
        return replace(self, train=self.train[-num_train_rows:])


def movielens(path: Path, *, with_history: bool = False) -> Rows:
    """All categorical fields of the log at `path`; with a history of favourites if asked for.

    Other libraries have other ideas of numeric fields and of pooling, so those are left out.
    """
    schema = Schema.load(MOVIELENS_SCHEMA)
    with tempfile.TemporaryDirectory() as scratch:
        source = open_source(SourceConfig(paths=(str(path),)), schema, Path(scratch))
        table = pa.concat_tables(t for shard in source.shards for t in source.read(shard))
    num_train = table.num_rows - round(table.num_rows * TEST_FRACTION)
    encoder = Encoder(schema)
    parts: list[pa.Table] = []
    for start, rows, learn in (
        (0, table.slice(0, num_train), True),
        (num_train, table.slice(num_train), False),
    ):
        coded = encoder.code(rows, learn=learn)
        encoder.end_stage(learn=learn)
        n = coded.num_rows
        parts.append(encoder.encode(coded, first_row=start, stage_offset=0, stage_rows=n))
    features = features_of(schema, encoder.num_ids)
    dropped = (*features.numeric, *(s.name for s in features.sequence))
    without = tuple(n for n in dropped if not (with_history and n == HISTORY))
    selection = select_fields(features, without)
    train, test = (selection(to_batch(part, features)) for part in parts)
    return Rows(features=selection.features, train=train, test=test)


def advertising(num_train_rows: int, num_test_rows: int, seed: int = 0) -> Rows:
    """Rows whose labels depend on every field's id and on three dozen pairs of fields.

    An id's share falls with its power of −2/3, as in `benchmarks.scoring.features`.
    """
    rng = np.random.default_rng(seed)
    num_rows, num_fields = num_train_rows + num_test_rows, len(ADVERTISING_IDS)
    ids = np.empty((num_rows, num_fields), dtype=np.int32)
    logit = np.full(num_rows, -1.2, dtype=np.float32)
    for f, num_ids in enumerate(ADVERTISING_IDS):
        rank = (num_ids - NUM_RESERVED_IDS) * rng.random(num_rows, dtype=np.float32) ** 3
        ids[:, f] = np.minimum(NUM_RESERVED_IDS + rank.astype(np.int32), num_ids - 1)
        logit += 0.15 * rng.standard_normal(num_ids, dtype=np.float32)[ids[:, f]]
    for _ in range(36):
        one, other = rng.choice(num_fields, 2, replace=False)
        effect = rng.standard_normal((CROSS_SIZE, CROSS_SIZE), dtype=np.float32)
        logit += 0.15 * effect[ids[:, one] % CROSS_SIZE, ids[:, other] % CROSS_SIZE]
    label = (rng.random(num_rows, dtype=np.float32) < 1.0 / (1.0 + np.exp(-logit))).astype(
        np.float32
    )
    batch = Batch(
        torch.from_numpy(ids),
        torch.empty(num_rows, 0),
        torch.empty(num_rows, 0, 0, dtype=torch.int32),
        torch.from_numpy(label),
    )
    features = FeatureSpec(
        categorical=tuple(f"field_{f}" for f in range(num_fields)),
        num_ids=ADVERTISING_IDS,
        numeric=(),
        sequence=(),
    )
    return Rows(features=features, train=batch[:num_train_rows], test=batch[num_train_rows:])
