"""A log without some of its fields, for candidates that are to do without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.errors import ConfigError


@dataclass(frozen=True)
class FieldSelection:
    """What is left of a log's fields: `features`, and where they stand in the log's batches."""

    features: FeatureSpec
    categorical: tuple[int, ...]
    numeric: tuple[int, ...]
    sequence: tuple[int, ...]
    whole: bool
    """Whether nothing is left out."""

    def __call__(self, batch: Batch) -> Batch:
        """The rows with the selected fields alone."""
        if self.whole:
            return batch

        def at(places: tuple[int, ...]) -> torch.Tensor:
            return torch.tensor(places, dtype=torch.int64, device=batch.label.device)

        sequence = batch.sequence.index_select(1, at(self.sequence))
        return Batch(
            batch.categorical.index_select(1, at(self.categorical)),
            batch.numeric.index_select(1, at(self.numeric)),
            sequence[:, :, : self.features.max_sequence_length],
            batch.label,
        )


def select_fields(features: FeatureSpec, without: Sequence[str]) -> FieldSelection:
    """All fields of `features` but those named in `without`, in their order.

    A sequence whose target field is left out keeps its items, as ids of its own. Raises
    `ConfigError` naming a field that the log lacks, and if none is left.
    """
    sequences = tuple(s.name for s in features.sequence)
    known = (*features.categorical, *features.numeric, *sequences)
    for name in without:
        if name not in known:
            raise ConfigError(f"without_fields: no field `{name}`; fields: {', '.join(known)}")

    def left(names: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(i for i, name in enumerate(names) if name not in without)

    categorical, numeric = left(features.categorical), left(features.numeric)
    sequence = left(sequences)
    if not (categorical or numeric or sequence):
        raise ConfigError("without_fields: no field is left")
    selected = FeatureSpec(
        categorical=tuple(features.categorical[i] for i in categorical),
        num_ids=tuple(features.num_ids[i] for i in categorical),
        numeric=tuple(features.numeric[i] for i in numeric),
        sequence=tuple(
            replace(s, target=None) if s.target in without else s
            for s in (features.sequence[i] for i in sequence)
        ),
    )
    return FieldSelection(selected, categorical, numeric, sequence, whole=selected == features)
