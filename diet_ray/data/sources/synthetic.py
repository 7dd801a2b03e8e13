"""A synthetic click log of any length, whose true click probability is known.

What it is made of, so that candidates differ for reasons that are known:

- taste: users and items have latent vectors; an item's turns with time (`drift`);
- new items: a share of the catalogue appears evenly over the period and is shown often while new;
- popularity and activity follow Zipf's law;
- crosses: an effect of every (category, device) and (category, hour) pair, not of either alone;
- numeric effects that are not linear: price relative to what a user likes to spend, item age;
- drift of each category's appeal, and of the overall rate;
- interest: what kind of item a user is after now, which changes every few days and only shows in
  what the user clicked lately;
- label noise: the probability p becomes (1 − 2ε)·p + ε, which is the one that `true_probability`
  states and labels are drawn from.

Rows are made in blocks of fixed size from (seed, block) alone: any range of rows is the same
however it is asked for, and memory doesn't depend on the number of rows.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diet_ray.data.rows import check_columns, normalise
from diet_ray.data.schema import Schema
from diet_ray.data.sources.base import RawShard
from diet_ray.errors import OutputError

BLOCK_ROWS = 65_536
TASTE_SIZE = 8
NUM_DEVICES = 4
NUM_HOURS = 24
NUM_KINDS = 8
FRESH_ITEMS = 200
"""As many of the latest items share the rows that go to new items."""
START_MS = 1_704_067_200_000  # 2024-01-01 UTC
DAY_MS = 86_400_000

SCHEMA = pa.schema(
    [
        ("timestamp", pa.int64()),
        ("click", pa.int8()),
        ("user_id", pa.int64()),
        ("item_id", pa.int64()),
        ("category", pa.int64()),
        ("device", pa.int64()),
        ("hour", pa.int64()),
        ("price", pa.float64()),
        ("item_age_days", pa.float64()),
        ("true_probability", pa.float64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    num_rows: int = 1_000_000
    seed: int = 0
    num_users: int = 50_000
    num_items: int = 20_000
    num_categories: int = 40
    days: int = 20
    drift: float = 1.0
    """How far tastes and appeals move over the whole period; 0: not at all."""
    new_item_share: float = 0.5
    """Share of the items that appear only after the log has begun."""
    taste: float = 1.0
    """Strength of the match of user and item."""
    crosses: float = 0.6
    """Strength of the pairs' effects."""
    interest: float = 0.0
    """Strength of the match of an item with what its user is after at the time."""
    interest_days: float = 3.0
    """How long a user is after one kind of item."""
    label_noise: float = 0.05
    """ε: the chance that a label is the opposite of what it would have been."""
    base_rate: float = -1.0
    """Intercept of the logit."""

    def __post_init__(self) -> None:
        sizes = (self.num_rows, self.num_users, self.num_items, self.num_categories, self.days)
        if min(sizes) < 1:
            raise ValueError("num_rows, num_users, num_items, num_categories, days: at least 1")
        if self.seed < 0 or min(self.drift, self.taste, self.crosses, self.interest) < 0:
            raise ValueError("seed, drift, taste, crosses and interest must be at least 0")
        if self.interest_days <= 0:
            raise ValueError("interest_days must be above 0")
        if not (0 <= self.new_item_share < 1 and 0 <= self.label_noise <= 0.5):
            raise ValueError("new_item_share must lie in [0, 1), label_noise in [0, 0.5]")


@dataclass(frozen=True)
class World:
    """What doesn't change along the log. Indices: users U, items I in order of birth, categories C.

    user_taste (U, T); item_taste (2, I, T), the vectors between which an item turns; user_bias,
    user_price (U,); item_quality, item_price, item_category, item_birth (I,), the last as a share
    of the period; category_trend (2, C); device_cross (C, D); hour_cross (C, H); user_share (U,)
    and item_share (I,), cumulative weights; item_kind (I,), which no column states; user_phase
    (U,) and user_interest (U, periods), the kinds that a user is after one period after another.
    """

    user_taste: np.ndarray
    user_bias: np.ndarray
    user_price: np.ndarray
    user_share: np.ndarray
    item_taste: np.ndarray
    item_quality: np.ndarray
    item_price: np.ndarray
    item_category: np.ndarray
    item_birth: np.ndarray
    item_share: np.ndarray
    category_trend: np.ndarray
    device_cross: np.ndarray
    hour_cross: np.ndarray
    item_kind: np.ndarray
    user_phase: np.ndarray
    user_interest: np.ndarray


@functools.lru_cache(maxsize=2)
def world(config: SyntheticConfig) -> World:
    """The log's world, from the seed alone."""
    rng = np.random.default_rng([config.seed, 0])
    users, items, categories = config.num_users, config.num_items, config.num_categories
    scale = TASTE_SIZE**-0.25
    num_interests = math.ceil(config.days / config.interest_days) + 1 if config.interest else 0
    # Old items first; the new ones appear evenly, none at the very end.
    num_old = max(1, items - int(items * config.new_item_share))
    birth = np.concatenate(
        [np.zeros(num_old), np.linspace(0.0, 1.0, items - num_old, endpoint=False)]
    )
    return World(
        user_taste=(scale * rng.normal(size=(users, TASTE_SIZE))).astype(np.float32),
        user_bias=0.5 * rng.normal(size=users),
        user_price=rng.normal(size=users),
        user_share=np.cumsum(rng.permutation((1.0 + np.arange(users)) ** -0.6)),
        item_taste=(scale * rng.normal(size=(2, items, TASTE_SIZE))).astype(np.float32),
        item_quality=0.5 * rng.normal(size=items),
        item_price=rng.normal(size=items),
        item_category=rng.integers(categories, size=items),
        item_birth=birth,
        item_share=np.cumsum(rng.permutation((1.0 + np.arange(items)) ** -0.8)),
        category_trend=0.5 * rng.normal(size=(2, categories)),
        device_cross=rng.normal(size=(categories, NUM_DEVICES)),
        hour_cross=rng.normal(size=(categories, NUM_HOURS)),
        item_kind=rng.integers(NUM_KINDS, size=items),
        user_phase=rng.random(users),
        user_interest=rng.integers(NUM_KINDS, size=(users, num_interests)).astype(np.int8),
    )


def generate(config: SyntheticConfig, first_row: int, num_rows: int) -> Iterator[pa.Table]:
    """Rows [first_row, first_row + num_rows) with the columns of `SCHEMA`, at most a block at once.

    Timestamps are in ms and don't decrease.
    """
    end = min(first_row + num_rows, config.num_rows)
    while first_row < end:
        block, offset = divmod(first_row, BLOCK_ROWS)
        take = min(end - first_row, BLOCK_ROWS - offset)
        yield _block(config, block).slice(offset, take)
        first_row += take


def write_synthetic(config: SyntheticConfig, out: str | Path) -> tuple[Path, ...]:
    """Writes the log as one Parquet file a day into the new folder `out`, and returns the files.

    Raises `OutputError` if the folder holds anything already.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out}: exists already; choose another folder or remove it")
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for day in range(config.days):
        first, end = _first_row(config, day), _first_row(config, day + 1)
        if first == end:
            continue
        files.append(out / f"day-{day:03d}.parquet")
        with pq.ParquetWriter(files[-1], SCHEMA) as writer:
            for table in generate(config, first, end - first):
                writer.write_table(table)
    return tuple(files)


@dataclass(frozen=True, kw_only=True)
class SyntheticSource:
    """Rows made where they are read, never written."""

    config: SyntheticConfig
    schema: Schema
    shards: tuple[RawShard, ...]
    sort: bool = False

    @classmethod
    def open(cls, config: SyntheticConfig | None, schema: Schema) -> SyntheticSource:
        """Raises `DataError` if the schema names other columns than the generator makes."""
        config = config or SyntheticConfig()
        check_columns(SCHEMA.names, schema.columns, "synthetic log")
        starts = range(0, config.num_rows, 4 * BLOCK_ROWS)
        shards = tuple(
            RawShard(
                file="synthetic log",
                first_row=start,
                num_rows=min(4 * BLOCK_ROWS, config.num_rows - start),
            )
            for start in starts
        )
        return cls(config=config, schema=schema, shards=shards)

    def read(self, shard: RawShard) -> Iterator[pa.Table]:
        row = shard.first_row
        for table in generate(self.config, shard.first_row, shard.num_rows):
            rows = table.select(list(self.schema.columns))
            yield normalise(rows, self.schema, file=shard.file, first_row=row)
            row += table.num_rows


def _first_row(config: SyntheticConfig, day: int) -> int:
    """The first row of a day: rows are spread evenly over the period."""
    return -(-day * config.num_rows // config.days)


def _block(config: SyntheticConfig, block: int) -> pa.Table:
    w = world(config)
    rng = np.random.default_rng([config.seed, 1, block])
    first = block * BLOCK_ROWS
    n = min(BLOCK_ROWS, config.num_rows - first)
    row = np.arange(first, first + n)
    elapsed_ms = row * (config.days * DAY_MS) // config.num_rows
    time = elapsed_ms / (config.days * DAY_MS)

    draws = rng.random((5, n))
    user = np.searchsorted(w.user_share, draws[0] * w.user_share[-1], side="right")
    born = np.searchsorted(w.item_birth, time, side="right")
    popular = np.searchsorted(w.item_share, draws[1] * w.item_share[born - 1], side="right")
    fresh = born - 1 - (draws[1] * np.minimum(born, FRESH_ITEMS)).astype(np.int64)
    item = np.where(draws[2] < 0.2, fresh, np.minimum(popular, born - 1))
    device = (draws[3] * NUM_DEVICES).astype(np.int64)
    hour = elapsed_ms // (DAY_MS // NUM_HOURS) % NUM_HOURS
    category = w.item_category[item]
    age_days = np.maximum(0.0, time - w.item_birth[item]) * config.days

    angle = (0.5 * np.pi * config.drift * time).astype(np.float32)[:, None]
    item_taste = np.cos(angle) * w.item_taste[0][item] + np.sin(angle) * w.item_taste[1][item]
    trend = w.category_trend[0] + config.drift * time[:, None] * w.category_trend[1]
    spend = np.abs(w.item_price[item] - w.user_price[user])
    logit = (
        config.base_rate
        + config.taste * np.einsum("nt,nt->n", w.user_taste[user], item_taste)
        + w.user_bias[user]
        + w.item_quality[item]
        + trend[np.arange(n), category]
        + config.crosses * (w.device_cross[category, device] + w.hour_cross[category, hour])
        - 0.5 * (spend - 1.1)  # 1.1 is its mean, 2/√π
        + 0.5 * np.exp(-age_days / 3.0)
        + 0.3 * config.drift * np.sin(2 * np.pi * time)
    )
    if config.interest:
        logit += config.interest * _interest(w, user, item, time, config)
    p = config.label_noise + (1.0 - 2.0 * config.label_noise) / (1.0 + np.exp(-logit))
    columns = [
        START_MS + elapsed_ms,
        (draws[4] < p).astype(np.int8),
        user,
        item,
        category,
        device,
        hour,
        np.round(np.exp(3.0 + 0.8 * w.item_price[item]), 2),
        np.round(age_days, 3),
        p,
    ]
    return pa.table([pa.array(c) for c in columns], schema=SCHEMA)


def _interest(
    w: World, user: np.ndarray, item: np.ndarray, time: np.ndarray, config: SyntheticConfig
) -> np.ndarray:
    """√(K − 1) where an item's kind is the one its user is after, −1/√(K − 1) elsewhere, (n,).

    So its mean is 0 and its SD 1. Users change their minds at times of their own.
    """
    period = np.floor(time * config.days / config.interest_days + w.user_phase[user])
    wanted = w.user_interest[user, period.astype(np.int64)]
    root = np.sqrt(NUM_KINDS - 1)
    return np.where(wanted == w.item_kind[item], root, -1.0 / root)
