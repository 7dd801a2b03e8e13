"""What a run's scores add up to, in a size that doesn't depend on the log: moments and extremes.

Summaries of shards merge in any grouping to the same lists.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

import numpy as np

from diet_ray.config import from_mapping
from diet_ray.documents import parse_json
from diet_ray.errors import DataError
from diet_ray.scoring.config import RowScore

List = Literal["helpful", "harmful", "influential", "redundant"]

_LISTS: dict[List, tuple[tuple[RowScore, ...], int]] = {
    "helpful": (("validation", "adam_validation"), 1),
    "harmful": (("validation", "adam_validation"), -1),
    "influential": (("self_influence", "adam_self_influence", "full", "gradient"), 1),
    "redundant": (("leverage",), -1),
}
"""What a list is taken by: the first of the scores that is there, its largest (1) or smallest
values."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    allows_nan: ClassVar[bool] = True
    """A score may be infinite."""
    num_rows: int
    total: float
    total_of_squares: float
    smallest: float
    largest: float

    @classmethod
    def of(cls, values: np.ndarray) -> Moments:
        exact = values.astype(np.float64)
        return cls(
            num_rows=len(values),
            total=float(exact.sum()),
            total_of_squares=float((exact * exact).sum()),
            smallest=float(exact.min()),
            largest=float(exact.max()),
        )

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            num_rows=self.num_rows + other.num_rows,
            total=self.total + other.total,
            total_of_squares=self.total_of_squares + other.total_of_squares,
            smallest=min(self.smallest, other.smallest),
            largest=max(self.largest, other.largest),
        )

    @property
    def mean(self) -> float:
        return self.total / self.num_rows

    @property
    def sd(self) -> float:
        return math.sqrt(max(0.0, self.total_of_squares / self.num_rows - self.mean**2))


@dataclass(frozen=True, kw_only=True)
class Extremes:
    """The rows of a list, the first ones first, and the score they are in it for."""

    allows_nan: ClassVar[bool] = True
    score: RowScore
    rows: tuple[int, ...]
    values: tuple[float, ...]

    @classmethod
    def of(
        cls, score: RowScore, sign: int, rows: np.ndarray, values: np.ndarray, top: int
    ) -> Extremes:
        keys = -sign * values.astype(np.float64)
        if 0 < top < len(keys):
            # Nothing beyond the last place needs sorting; ties with it do.
            kept = np.flatnonzero(keys <= np.partition(keys, top - 1)[top - 1])
            rows, values, keys = rows[kept], values[kept], keys[kept]
        order = np.lexsort((rows, keys))[:top]
        return cls(
            score=score,
            rows=tuple(int(r) for r in rows[order]),
            values=tuple(float(v) for v in values[order]),
        )


@dataclass(frozen=True, kw_only=True)
class Summary:
    moments: dict[RowScore, Moments]
    lists: dict[List, Extremes]

    @classmethod
    def of(
        cls,
        rows: np.ndarray,
        scores: Mapping[RowScore, np.ndarray],
        top: int,
        *,
        is_train: bool = True,
    ) -> Summary:
        """Of row numbers (B,) and scores (B,) by name; features are left out, and test rows out of
        the lists: nobody trains on those."""
        flat = {name: values for name, values in scores.items() if values.ndim == 1}
        lists = {}
        for name, (by, sign) in _LISTS.items():
            score = next((s for s in by if s in flat), None)
            if score is not None:
                found = top if is_train else 0
                lists[name] = Extremes.of(score, sign, rows, flat[score], found)
        return cls(moments={n: Moments.of(v) for n, v in flat.items()}, lists=lists)

    def merged(self, other: Summary, top: int) -> Summary:
        """Both together; sums depend on the order in their last bits, lists don't."""
        lists = {}
        for name, mine in self.lists.items():
            others = other.lists[name]
            rows = np.array([*mine.rows, *others.rows], dtype=np.int64)
            values = np.array([*mine.values, *others.values])
            lists[name] = Extremes.of(mine.score, _LISTS[name][1], rows, values, top)
        moments = {n: m + other.moments[n] for n, m in self.moments.items()}
        return Summary(moments=moments, lists=lists)

    def to_json(self) -> str:
        return json.dumps(
            {
                "moments": {n: asdict(m) for n, m in self.moments.items()},
                "lists": {n: asdict(e) for n, e in self.lists.items()},
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "a shard's summary") -> Summary:
        """Raises `DataError` or `ConfigError` naming `where`."""
        return from_mapping(cls, parse_json(text, where, DataError), where)
