"""What a distilled dataset holds, ready to be shown: by stage, by field, and row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from diet_ray.data.batch import NUM_RESERVED_IDS, UNKNOWN_ID
from diet_ray.data.known_ids import KnownIds
from diet_ray.data.schema import Field
from diet_ray.memory.dataset import DistilledDataset
from diet_ray.memory.publish import num_ids
from diet_ray.memory.slots import to_columns
from diet_ray.report import format as fmt
from diet_ray.report.figures import number

NUM_ROWS_SHOWN = 10
_MAX_ITEMS = 6
_MAX_CHARACTERS = 48
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class BirthStage:
    """What is left in the memory of one stage's slots."""

    stage: int
    num_slots: int
    num_proposed: float | None
    """Slots that the stage proposed; None if the manifest doesn't say."""
    num_rows: float | None
    """Rows that the stage read; likewise."""
    weight: float
    """Rows of the log that the slots stand for."""
    positive_share: float | None
    """Of the weight, the share whose observed label is 1; None without slots."""
    soft_share: float | None
    """Mean soft label by weight, as a probability; None without slots."""


@dataclass(frozen=True, kw_only=True)
class FieldCoverage:
    """How much of a field's values a model that is trained on the set gets to know."""

    name: str
    kind: str
    num_values: int | None
    """Distinct values in the slots; None of numbers."""
    num_log_values: int | None
    """Distinct values that the log has given ids, or buckets of a hashed field."""
    covered: float | None
    """Share of the log's rows whose value occurs in the slots; None where it isn't counted."""


@dataclass(frozen=True, kw_only=True)
class InfluentialRow:
    """A slot in words."""

    influence: str
    label: str
    soft_label: str
    weight: str
    birth_stage: int
    time: str
    values: tuple[tuple[str, str], ...]
    """Field and value, in the order of the schema."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryFigures:
    """Arrays have an entry a slot, in time order."""

    stages: tuple[BirthStage, ...]
    coverage: tuple[FieldCoverage, ...]
    rows: tuple[InfluentialRow, ...]
    """The most influential ones, first the one with most."""
    influence: NDArray[np.float64]
    weight: NDArray[np.float64]
    soft_label: NDArray[np.float64]
    """As a probability."""
    label: NDArray[np.float64]
    top_influence_share: float | None
    """Of all influence, what the most influential tenth of the slots has."""
    num_bytes: tuple[tuple[str, int], ...]
    """What the set's bytes hold, and how many; parts of no bytes are left out."""


def memory_figures(dataset: DistilledDataset) -> MemoryFigures:
    columns = to_columns(dataset.slots)
    influence = columns["_influence"].astype(np.float64)
    account = dataset.manifest.num_bytes
    return MemoryFigures(
        stages=_birth_stages(columns, dataset.manifest.stages),
        coverage=_coverage(dataset),
        rows=_influential(dataset, columns),
        influence=influence,
        weight=columns["_weight"].astype(np.float64),
        soft_label=_sigmoid(columns["_soft_label"]),
        label=columns["_label"].astype(np.float64),
        top_influence_share=_top_share(influence),
        num_bytes=tuple(
            (name, size)
            for name, size in (
                ("slots", account.slots),
                ("vocabularies", account.vocabularies),
                ("codebooks", account.codebooks),
                ("embeddings", account.embeddings),
            )
            if size
        ),
    )


def _birth_stages(
    columns: Mapping[str, NDArray[Any]], records: tuple[dict[str, Any], ...]
) -> tuple[BirthStage, ...]:
    """Every stage on record or among the slots, ascending; those without slots included."""
    born = columns["_birth_stage"]
    weight = columns["_weight"].astype(np.float64)
    soft = _sigmoid(columns["_soft_label"])
    known = {int(n): r for r in records if (n := number(r, "stage")) is not None}
    found = []
    for stage in sorted({*known, *born.tolist()}):
        inside = born == stage
        mass = float(weight[inside].sum())
        record = known.get(stage, {})
        found.append(
            BirthStage(
                stage=stage,
                num_slots=int(inside.sum()),
                num_proposed=number(record, "proposed"),
                num_rows=number(record, "rows"),
                weight=mass,
                positive_share=float(weight[inside] @ columns["_label"][inside]) / mass
                if mass
                else None,
                soft_share=float(weight[inside] @ soft[inside]) / mass if mass else None,
            )
        )
    return tuple(found)


def _coverage(dataset: DistilledDataset) -> tuple[FieldCoverage, ...]:
    manifest = dataset.manifest
    known = KnownIds.of(dataset.batch(), manifest.features)
    sizes = num_ids(manifest)
    found = []
    for f in dataset.schema.fields:
        covered = None
        if f.kind == "categorical" and f.name in dataset.vocabularies:
            # Every row has one value, so its rows are counted by its values.
            counted = int(dataset.vocabularies[f.name]["count"].to_numpy().sum())
            covered = min(counted / manifest.num_rows_seen, 1.0)
        numeric = f.kind == "numeric"
        found.append(
            FieldCoverage(
                name=f.name,
                kind=_kind(f),
                num_values=None if numeric else len(known.ids(f.name)),
                num_log_values=None if numeric else sizes[f.name] - NUM_RESERVED_IDS,
                covered=covered,
            )
        )
    return tuple(found)


def _kind(field: Field) -> str:
    if field.history_of is not None:
        return f"history of {field.history_of}"
    return f"{field.kind}, hashed" if field.hash_buckets else field.kind


def _influential(
    dataset: DistilledDataset, columns: Mapping[str, NDArray[Any]]
) -> tuple[InfluentialRow, ...]:
    order = np.argsort(-columns["_influence"], kind="stable")[:NUM_ROWS_SHOWN]
    frame = dataset.to_pandas(decode=True).iloc[order]
    soft = _sigmoid(columns["_soft_label"])
    zone = ZoneInfo(dataset.schema.timestamp.timezone)
    return tuple(
        InfluentialRow(
            influence=fmt.significant(float(columns["_influence"][i]), 3),
            label="positive" if columns["_label"][i] else "negative",
            soft_label=fmt.percent(float(soft[i])),
            weight=fmt.significant(float(columns["_weight"][i])),
            birth_stage=int(columns["_birth_stage"][i]),
            time=_time(int(columns["_timestamp"][i]), zone),
            values=tuple((f.name, _value(f, row[f.name])) for f in dataset.schema.fields),
        )
        for i, row in zip(order, frame.to_dict("records"), strict=True)
    )


def _value(field: Field, value: Any) -> str:
    if field.kind == "numeric":
        return f"{fmt.decimal(float(value), 2)} SD"
    if field.kind == "categorical":
        return _item(field, value)
    items = [_item(field, v) for v in list(value)]
    # The latest stand last.
    shown = ", ".join(items[-_MAX_ITEMS:])
    num_earlier = len(items) - _MAX_ITEMS
    return (f"{num_earlier} more, {shown}" if num_earlier > 0 else shown) or "none"


def _item(field: Field, value: Any) -> str:
    if field.hash_buckets:
        bucket = int(value)
        return "unknown" if bucket == UNKNOWN_ID else f"bucket {bucket}"
    if not isinstance(value, str):
        # None, or what pandas makes of it.
        return "unknown"
    text = " ".join(value.split()) or "(empty)"
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 1]}…"


def _time(microseconds: int, zone: ZoneInfo) -> str:
    at = _EPOCH + timedelta(microseconds=microseconds)
    return at.astimezone(zone).strftime("%Y-%m-%d %H:%M")


def _top_share(influence: NDArray[np.float64]) -> float | None:
    total = influence.sum()
    if not total > 0:
        return None
    num_top = int(np.ceil(influence.size / 10))
    return float(np.sort(influence)[-num_top:].sum() / total)


def _sigmoid(logits: NDArray[Any]) -> NDArray[np.float64]:
    return np.exp(-np.logaddexp(0.0, -logits.astype(np.float64)))
