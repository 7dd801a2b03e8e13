"""A distilled dataset as a comparison takes it."""

from __future__ import annotations

from dataclasses import dataclass

from diet_ray.data.batch import FeatureSpec
from diet_ray.memory.dataset import DistilledDataset
from diet_ray.search.runs import TrainingRows
from diet_ray.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class DistilledSet:
    """What of a distilled dataset a comparison needs."""

    train: TrainingRows
    """Slots in time order."""
    features: FeatureSpec
    recipe: Recipe
    num_bytes: int
    """On disk, everything that ships with the slots included."""
    distill_seconds: float
    """Wall-clock that distilling it took."""

    @classmethod
    def of(cls, dataset: DistilledDataset, *, distill_seconds: float) -> DistilledSet:
        return cls(
            train=TrainingRows.of(dataset),
            features=dataset.features,
            recipe=dataset.recipe,
            num_bytes=dataset.manifest.num_bytes.total,
            distill_seconds=distill_seconds,
        )
