"""What every format writes: the distilled rows, the evaluation rows, and if asked for the full log.

Splits are `train` (the distilled rows), `valid` and `test` (the two halves of the evaluation rows:
rank on the first, take regret on the second) and `full` (every training row of the log, with
observed labels), all in the order of time and encoded with the same ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.data.log import PreparedLog
from diet_ray.errors import ConfigError, DataError
from diet_ray.memory.dataset import DistilledDataset
from diet_ray.search.evaluation import EvaluationRows, evaluation_rows
from diet_ray.search.runs import TrainingRows

TARGET = "_target"
WEIGHT = "_weight"


@dataclass(frozen=True, kw_only=True)
class ExportRows:
    dataset: DistilledDataset
    name: str
    """Of the exported dataset."""
    evaluation: EvaluationRows
    log: PreparedLog
    with_full: bool = False
    """Also the whole log's training rows, for a full-data reference in the same format."""

    @classmethod
    def of_run(
        cls, path: Path, name: str, num_evaluation_rows: int, *, with_full: bool = False
    ) -> ExportRows:
        """Raises `DataError` if the run's dataset isn't of the run's log as it stands, or the log
        has no rows to judge on."""
        dataset = DistilledDataset.load(path / "distilled")
        log = PreparedLog.open(str(path / "log"))
        if dataset.manifest.source_fingerprint != log.fingerprint:
            raise DataError(f"{path}: has rows that aren't distilled yet: run `diet update` first")
        if log.schema.label.column in {f.name for f in log.schema.fields}:
            raise ConfigError(
                f"{path}: a field is named `{log.schema.label.column}`, as the label's column: "
                "rename it in the schema"
            )
        return cls(
            dataset=dataset,
            name=name,
            # Before anything is written, as there may be none.
            evaluation=evaluation_rows(log, num_evaluation_rows),
            log=log,
            with_full=with_full,
        )

    @property
    def features(self) -> FeatureSpec:
        return self.dataset.features

    @property
    def label(self) -> str:
        """Column of the label."""
        return self.dataset.schema.label.column

    def splits(self) -> Iterator[tuple[str, Iterable[TrainingRows]]]:
        """Every split's name and its rows, a part at a time."""
        yield "train", [TrainingRows.of(self.dataset)]
        evaluation = self.evaluation
        yield "valid", [_observed(evaluation.batch[: evaluation.num_ranking])]
        yield "test", [_observed(evaluation.batch[evaluation.num_ranking :])]
        if self.with_full:
            yield "full", (_observed(b) for b in self.log.batches(self.log.train_stages))


def _observed(batch: Batch) -> TrainingRows:
    return TrainingRows(batch, batch.label, torch.ones(len(batch)))


def repeated(rows: TrainingRows) -> TrainingRows:
    """As many rows as there are, each as often as its weight says, for trainers without weights.

    Row i of M appears floor or ceil of M · w_i / Σ w times (systematic sampling from the middle of
    the first step); equal weights give the rows themselves.
    """
    cumulative = np.cumsum(rows.weight.double().numpy())
    points = (np.arange(len(rows)) + 0.5) * (cumulative[-1] / len(rows))
    chosen = torch.from_numpy(np.minimum(np.searchsorted(cumulative, points), len(rows) - 1))
    return TrainingRows(rows.batch[chosen], rows.target[chosen], torch.ones(len(rows)))


def hard_columns(rows: TrainingRows, features: FeatureSpec, label: str) -> pa.Table:
    """A column a field and one `label`, a soft label in [0, 1]; weights become repetitions."""
    rows = repeated(rows)
    return field_columns(rows.batch, features).append_column(
        label, pa.array(rows.target.clamp(0.0, 1.0).numpy())
    )


def field_columns(batch: Batch, features: FeatureSpec) -> pa.Table:
    """Ids as int32, numeric fields as float32, sequences as lists of `max_length` ids (0: none)."""
    columns: dict[str, pa.Array] = {}
    for i, name in enumerate(features.categorical):
        columns[name] = pa.array(batch.categorical[:, i].numpy())
    for i, name in enumerate(features.numeric):
        columns[name] = pa.array(batch.numeric[:, i].numpy())
    for i, s in enumerate(features.sequence):
        flat = batch.sequence[:, i, : s.max_length].reshape(-1).numpy()
        columns[s.name] = pa.FixedSizeListArray.from_arrays(pa.array(flat), s.max_length)
    return pa.table(columns)
