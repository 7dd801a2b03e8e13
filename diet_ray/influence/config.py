"""Settings of influence scoring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Score = Literal["error", "last_layer", "embedding", "gradient"]


@dataclass(frozen=True, kw_only=True)
class InfluenceConfig:
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
    num_scorers: int | Literal["auto"] = "auto"
    """Scorer actors; `auto` leaves one CPU of the cluster to the driver, or fills its GPUs."""
    cpus_per_scorer: float = 0.5
    gpus_per_scorer: float = 0.25
    """Used only when the cluster has GPUs."""

    def __post_init__(self) -> None:
        if not 0 <= self.defensive_share <= 1:
            raise ValueError("defensive_share must lie in [0, 1]")
        if self.sketch_buckets < 0:
            raise ValueError("sketch_buckets must be at least 0")
        if self.batch_size < 1:
            raise ValueError("batch_size must be at least 1")
        if self.num_scorers != "auto" and self.num_scorers < 1:
            raise ValueError("num_scorers must be at least 1, or auto")
        if self.cpus_per_scorer <= 0 or self.gpus_per_scorer <= 0:
            raise ValueError("cpus_per_scorer and gpus_per_scorer must be above 0")
