"""Settings of influence scoring."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

Score = Literal["error", "last_layer", "embedding", "gradient", "full"]


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """How many scorers read a log's shards, and what each of them holds."""

    num_scorers: int | Literal["auto"] = "auto"
    """Scorer actors that the pool starts with and never goes below; `auto` takes what is free: all
    CPUs but one, which the driver keeps busy, or all GPUs."""
    max_scorers: int | None = None
    """Scorers that the pool may grow to while shards wait; None: no more than it starts with."""
    cpus_per_scorer: float = 0.5
    gpus_per_scorer: float = 0.25
    """Used only when the cluster has GPUs."""
    shards_in_flight: int | Literal["auto"] = "auto"
    """Shards that a scorer holds at the same time; `auto` is 2: one is read, or on its way, while
    the other is computed. With 1 a scorer waits for the driver between two shards, a tenth of a
    second or two, and a slow scorer holds up a stage by one shard rather than two."""
    start_timeout_s: float = 600.0
    """How long shards wait for a scorer to find a place on the cluster, until that is an error."""

    def __post_init__(self) -> None:
        if self.num_scorers != "auto" and self.num_scorers < 1:
            raise ValueError("num_scorers must be at least 1, or auto")
        least = 1 if self.num_scorers == "auto" else self.num_scorers
        if self.max_scorers is not None and self.max_scorers < least:
            raise ValueError(f"max_scorers must be at least {least}, or null")
        if self.cpus_per_scorer <= 0 or self.gpus_per_scorer <= 0:
            raise ValueError("cpus_per_scorer and gpus_per_scorer must be above 0")
        if self.shards_in_flight != "auto" and self.shards_in_flight < 1:
            raise ValueError("shards_in_flight must be at least 1, or auto")
        if self.start_timeout_s <= 0:
            raise ValueError("start_timeout_s must be above 0")


POOL_KEYS = frozenset(f.name for f in fields(PoolConfig))
"""Settings that change no score and no slot."""


@dataclass(frozen=True, kw_only=True)
class InfluenceConfig(PoolConfig):
    score: Score = "gradient"
    """What makes a row influential: see `diet_ray.influence.scores`."""
    defensive_share: float = 1.0
    """λ: share of every stratum's slots that are drawn uniformly, which bounds the mass that one
    slot can stand for to about 1/λ times the mean; 0 draws by score alone, 1, the default, ignores
    it: drawing by influence was not found to help a ranking, and the proxies have been trained on
    rows that were not drawn uniformly."""
    sketch_buckets: int = 4096
    """Buckets of the count sketch of a vocabulary's embedding gradients, exact for vocabularies of
    no more ids; 0 leaves embeddings out of the stage's aggregate gradient."""
    batch_size: int = 16_384
    """Rows scored at once; batches are cut within a shard."""
    clip_ratio: float = 10.0
    """A row's score, and its part in the stage's aggregate gradient, count at most this many times
    the 99th percentile of its batch, so that no row outweighs all others."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.defensive_share <= 1:
            raise ValueError("defensive_share must lie in [0, 1]")
        if self.sketch_buckets < 0:
            raise ValueError("sketch_buckets must be at least 0")
        if self.clip_ratio < 1:
            raise ValueError("clip_ratio must be at least 1")
        if self.batch_size < 1:
            raise ValueError("batch_size must be at least 1")
