"""Back to budget: slots are merged or evicted until the memory holds no more than it may.

No mass is lost. Slots are grouped by birth stage and stratum, a group gets a number of places, and
the weight of what goes stays in its group:

- A birth stage's places are in proportion to its weight, that is to the rows of the log that it
  stands for, so a stage of the first day keeps as many as an equal one of the last: nothing is
  forgotten for being old. Within a stage, places are in proportion to the slots of each stratum,
  as the reservoir allotted them. Largest remainders; every stage and stratum keeps at least one
  slot while there are places enough.
- A group without a place joins one of the same label: of its own stage, or else of its stratum in
  the stage nearest in time.

`merge`: within a group and label, slots are put in a row in which similar ones are neighbours
(by the signs of a random projection of their fields, then by soft label) and the closest
neighbours become one. The heaviest keeps its number, ids and label; numeric fields, residual,
influence and the probability of the soft label are means by weight, so that at equal inputs the
loss is unchanged. It is as old as the oldest of them, and takes the lowest reservoir key.

`evict`: the lowest reservoir keys stay, and take over the weight of the group in proportion to
their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from scipy.special import expit, logit

from diet_ray.errors import DistilledSetError
from diet_ray.influence.hashing import mix
from diet_ray.memory.slots import field_names, from_columns, to_columns

_SIGNATURE_SIZE = 16
_NUMERIC_LIMIT = 3.0
_SMALLEST_PROBABILITY = 1e-15
_BISECTIONS = 120

Columns = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    policy: Literal["merge", "evict"] = "evict"
    soft_label_scale: float = 1.0
    """Merge: distance that a difference of 1 in the soft label counts, against at most 2 for
    fields that have nothing in common."""

    def __post_init__(self) -> None:
        if self.soft_label_scale < 0:
            raise ValueError("soft_label_scale must be at least 0")


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """What fusion did, as an update needs it; `changed` are whole rows of slots that stay."""

    changed: pa.Table
    removed: np.ndarray
    """Slot numbers (r,), int64, ascending."""


def fuse(slots: pa.Table, budget: int, config: FusionConfig) -> Fusion:
    """Slots to change and to remove so that `budget` remain and weigh as much as all did.

    The outcome doesn't depend on the order of rows. Raises `DistilledSetError` below one slot.
    """
    if budget < 1:
        raise DistilledSetError(f"budget: {budget} slots hold nothing: allow at least 1")
    if slots.num_rows <= budget:
        return Fusion(changed=slots.slice(0, 0), removed=np.empty(0, dtype=np.int64))
    columns = to_columns(slots)
    order = np.argsort(columns["_slot"], kind="stable")
    columns = {name: values[order] for name, values in columns.items()}

    group, places = allot(columns, budget)
    reduced = places[group] < np.bincount(group)[group]
    columns = {name: values[reduced] for name, values in columns.items()}
    group = group[reduced]
    if config.policy == "evict":
        kept, changed = _evict(columns, group, places)
    else:
        kept, changed = _merge(columns, group, places, field_names(slots), config)
    return Fusion(
        changed=from_columns(changed, slots.schema),
        removed=columns["_slot"][~kept].astype(np.int64),
    )


def allot(columns: Columns, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """Each slot's group (n,), and each group's places; a group has at least one place.

    Groups are (birth stage, stratum), renumbered; places sum to `budget`, none above a group's
    slots. Needs more slots than places.
    """
    stage, stratum, label = (columns[c] for c in ("_birth_stage", "_stratum", "_label"))
    stages, in_stage = np.unique(stage, return_inverse=True)
    weight = np.bincount(in_stage, columns["_weight"])
    stage_places = apportion(weight, np.bincount(in_stage), budget)

    pairs, group = np.unique(np.stack([stage, stratum], axis=1), axis=0, return_inverse=True)
    group = group.reshape(-1)
    sizes = np.bincount(group)
    places = np.zeros(len(pairs), dtype=np.int64)
    for s, available in zip(stages, stage_places, strict=True):
        own = np.flatnonzero(pairs[:, 0] == s)
        places[own] = apportion(sizes[own].astype(float), sizes[own], int(available))

    # The label of a group is that of its first slot: a stratum holds one label alone.
    group_label = np.empty(len(pairs))
    group_label[group[::-1]] = label[::-1]
    heir = np.arange(len(pairs))
    homes = np.flatnonzero(places)
    for g in np.flatnonzero(places == 0):
        distance = np.abs(pairs[homes, 0].astype(np.int64) - pairs[g, 0])
        other_stratum = pairs[homes, 1] != pairs[g, 1]
        other_label = group_label[homes] != group_label[g]
        preference = (homes, distance, other_stratum, distance > 0, other_label)
        heir[g] = homes[np.lexsort(preference)[0]]
    renumbered = np.cumsum(places > 0) - 1
    return renumbered[heir[group]], places[homes]


def apportion(share: np.ndarray, capacity: np.ndarray, places: int) -> np.ndarray:
    """Divides `places` in proportion to `share` (n,) by largest remainders, int64 (n,).

    None gets more than its `capacity`; what that leaves is divided among the others. Each gets
    one before any gets two, if there are places for all. Ties go to the lower index.
    """
    n = len(share)
    limit = np.asarray(capacity, dtype=np.int64) if places >= n else np.ones(n, dtype=np.int64)
    least = int(places >= n)
    share = np.maximum(share, share.max(initial=0.0) * 1e-12)

    # clip(λ·share, least, limit) grows with λ from too few places to too many.
    low, high = 0.0, float((limit / share).max(initial=0.0))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if (middle * share).clip(least, limit).sum() <= places:
            low = middle
        else:
            high = middle
    exact = (low * share).clip(least, limit)
    given = np.floor(exact).astype(np.int64)
    remainder = np.where(given < limit, exact - given, -1.0)
    given[np.lexsort((np.arange(n), -remainder))[: places - int(given.sum())]] += 1
    return given


def _evict(columns: Columns, group: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, Columns]:
    order = np.lexsort((columns["_slot"], columns["_key"], group))
    kept = np.zeros(group.size, dtype=bool)
    kept[order] = _rank(group[order]) < places[group[order]]
    weight = columns["_weight"]
    all_weight = np.bincount(group, weight, minlength=places.size)
    kept_weight = np.bincount(group, weight * kept, minlength=places.size)
    changed = {name: values[kept] for name, values in columns.items()}
    own = group[kept]
    changed["_weight"] = changed["_weight"] * (all_weight[own] / kept_weight[own])
    return kept, changed


def _merge(
    columns: Columns, group: np.ndarray, places: np.ndarray, fields: list[str], config: FusionConfig
) -> tuple[np.ndarray, Columns]:
    soft_label = columns["_soft_label"].astype(np.float64)
    signature = _signature(columns, fields)
    code = (signature > 0) @ (1 << np.arange(_SIGNATURE_SIZE))
    row = np.lexsort((columns["_slot"], soft_label, code, columns["_label"], group))
    group, label = group[row], columns["_label"][row]

    # Distance of each slot to the one before it in the row.
    distance = np.full(group.size, np.inf)
    step = signature[row[1:]] - signature[row[:-1]]
    soft_step = config.soft_label_scale * np.diff(soft_label[row])
    distance[1:] = np.einsum("ij,ij->i", step, step) + soft_step**2
    # Slots of two labels become one only if a group has no other way down to its places.
    distance[1:][np.diff(label) != 0] = np.finfo(float).max
    distance[_starts(group)] = np.inf
    closest = np.lexsort((columns["_slot"][row], distance, group))
    num_merges = (np.bincount(group, minlength=places.size) - places).clip(0)
    joins = np.zeros(group.size, dtype=bool)
    joins[closest] = _rank(group[closest]) < num_merges[group[closest]]

    cluster = np.cumsum(~joins) - 1
    return _joined(columns, row, cluster, fields)


def _joined(
    columns: Columns, row: np.ndarray, cluster: np.ndarray, fields: list[str]
) -> tuple[np.ndarray, Columns]:
    """Slots in the order `row`, runs of equal `cluster` made one."""
    weight = columns["_weight"]
    lead = row[np.lexsort((columns["_slot"][row], -weight[row], cluster))]
    lead = lead[_starts(cluster)]
    size = np.bincount(cluster)
    merged = np.repeat(size > 1, size)
    row, cluster = row[merged], cluster[merged]
    starts = np.flatnonzero(_starts(cluster))
    changed_lead = lead[size > 1]
    total = np.add.reduceat(weight[row], starts)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(weight[row] * values[row], starts) / total

    changed = {name: values[changed_lead] for name, values in columns.items()}
    averaged = [f for f in fields if columns[f].dtype.kind == "f"]
    for name in (*averaged, "_residual", "_influence"):
        changed[name] = mean(columns[name].astype(np.float64))
    probability = mean(expit(columns["_soft_label"].astype(np.float64)))
    probability = probability.clip(_SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
    changed["_soft_label"] = logit(probability)
    changed["_weight"] = total
    changed["_birth_stage"] = np.minimum.reduceat(columns["_birth_stage"][row], starts)
    changed["_age"] = np.maximum.reduceat(columns["_age"][row], starts)
    changed["_key"] = np.minimum.reduceat(columns["_key"][row], starts)
    kept = np.zeros(weight.size, dtype=bool)
    kept[lead] = True
    by_slot = np.argsort(changed["_slot"])
    return kept, {name: values[by_slot] for name, values in changed.items()}


def _signature(columns: Columns, fields: list[str]) -> np.ndarray:
    """A random projection (n, 16), float32, of a slot's fields, each of length 1.

    An id of a field becomes a vector of hashed signs, a sequence the mean of its items', a numeric
    value its multiple of the field's own; scaled so that two slots without anything in common lie
    at a squared distance of about 2.
    """
    n = columns["_slot"].size
    total = np.zeros((n, _SIGNATURE_SIZE), dtype=np.float32)
    for i, name in enumerate(fields):
        values = columns[name]
        if values.dtype.kind == "f":
            direction = _signs(np.array([i]), i)
            total += values.clip(-_NUMERIC_LIMIT, _NUMERIC_LIMIT)[:, None] * direction
            continue
        ids = values.reshape(n, -1)
        table = _signs(np.arange(int(ids.max(initial=0)) + 1), i)
        table[0] = 0
        length = np.maximum((ids > 0).sum(axis=1), 1).astype(np.float32)
        items = np.zeros((n, _SIGNATURE_SIZE), dtype=np.int16)
        for j in range(ids.shape[1]):
            items += table[ids[:, j]]
        total += items / length[:, None]
    return total / np.float32(np.sqrt(_SIGNATURE_SIZE * max(1, len(fields))))


def _signs(ids: np.ndarray, field: int) -> np.ndarray:
    """Signs (n, 16), int8, that a field's ids hash to."""
    hashes = mix(mix(ids.astype(np.int64)) ^ mix(np.full(1, field, dtype=np.int64)))
    octets = hashes.astype("<i8").view(np.uint8).reshape(-1, 8)[:, : _SIGNATURE_SIZE // 8]
    return np.unpackbits(octets, axis=1).astype(np.int8) * 2 - 1


def _starts(group: np.ndarray) -> np.ndarray:
    """True where a run of equal values begins."""
    starts = np.ones(group.size, dtype=bool)
    starts[1:] = group[1:] != group[:-1]
    return starts


def _rank(group: np.ndarray) -> np.ndarray:
    """Position of each element within its run of equal values."""
    starts = _starts(group)
    return np.arange(group.size) - np.flatnonzero(starts)[np.cumsum(starts) - 1]
