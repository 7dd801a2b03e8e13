"""What `diet score` computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diet_ray.influence.config import PoolConfig

RowScore = Literal[
    "loss",
    "error",
    "last_layer",
    "embedding",
    "gradient",
    "full",
    "self_influence",
    "adam_self_influence",
    "validation",
    "adam_validation",
    "leverage",
    "features",
]

Precision = Literal["float32", "bfloat16", "float16"]

NEEDS_VALIDATION: frozenset[RowScore] = frozenset({"validation", "adam_validation"})
NEEDS_MOMENTS: frozenset[RowScore] = frozenset({"adam_self_influence", "adam_validation"})
NEEDS_FEATURES: frozenset[RowScore] = frozenset({"leverage", "features"})


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(PoolConfig):
    scores: tuple[RowScore, ...] = ("loss", "full", "validation", "leverage")
    """Columns of the output, see `diet_ray.scoring.row_scores`."""
    validation_rows: int = 8_192
    """Rows of the block that `validation` is influence on: evenly spaced over the first half of the
    test tail, so that the second half can still judge what was made of the scores."""
    reference_rows: int = 16_384
    """Rows, evenly spaced over the training part, that `leverage` compares a row with; of a log of
    many shards, rows of 64 of them."""
    feature_size: int = 64
    """Dimensions of a row's projected gradient."""
    top: int = 100
    """Rows of each list of the summary."""
    batch_size: int = 4_096
    """Rows scored at once; batches are cut within a shard."""
    precision: Precision = "float32"
    """Of the forward and backward pass; norms and products add up in float32."""
    compile: bool = False
    """Whether whole batches are scored by a compiled program, see `diet_ray.scoring.compiled`."""
    on_bad_shard: Literal["fail", "skip"] = "fail"
    """Whether a shard that can't be read or scored ends the run, or is left out and named; rows
    that `validation` and `leverage` refer to are then taken from the others."""
    seed: int = 0
    """Of the random projection."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scores or len(set(self.scores)) < len(self.scores):
            raise ValueError("scores: at least one, and every name once")
        sizes = (
            self.validation_rows,
            self.reference_rows,
            self.feature_size,
            self.top,
            self.batch_size,
        )
        if min(sizes) < 1:
            raise ValueError(
                "validation_rows, reference_rows, feature_size, top and batch_size must be at "
                "least 1"
            )

    def needs(self, group: frozenset[RowScore]) -> bool:
        """Whether any of the scores is of `group`."""
        return bool(group & set(self.scores))
