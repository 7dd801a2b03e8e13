"""What the columns of a log mean: timestamp, label, and categorical, numeric and sequence fields.

A schema is a YAML file:

    timestamp: {column: time_ms, unit: ms, timezone: Asia/Shanghai}
    label: {column: long_view}
    fields:
      - {name: user_id, kind: categorical}
      - {name: video_id, kind: categorical, min_count: 2}
      - {name: device, kind: categorical, hash_buckets: 10000}
      - {name: duration_ms, kind: numeric}
      - {name: tags, kind: sequence, separator: "|", max_length: 5}
      - {name: watched, kind: sequence, history_of: video_id, user: user_id, max_length: 20}

The last field is behaviour history: the items of the user's own earlier positive events, which the
system builds itself, so that no row can see its own label or a later one.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from diet_ray.config import from_mapping, load_yaml
from diet_ray.documents import shown

MAX_LENGTH = 10_000
"""Items of a sequence."""
MAX_HASH_BUCKETS = 2**30
MAX_NAME_BYTES = 200
FORBIDDEN_IN_NAMES = r"[/\\\x00-\x1f\x7f]"


def is_field_name(name: str) -> bool:
    """Whether a field may be called so: it names columns of the slots, and files."""
    if not name or name.startswith("_") or len(name.encode()) > MAX_NAME_BYTES:
        return False
    return re.search(FORBIDDEN_IN_NAMES, name) is None


@dataclass(frozen=True, kw_only=True)
class Timestamp:
    column: str
    unit: Literal["s", "ms", "us", "ns"] = "s"
    """Unit of a numeric column; Arrow timestamps and ISO text carry their own."""
    timezone: str = "UTC"
    """Where a day begins and ends, and what timestamps without an offset mean."""

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            raise ValueError(
                f"timezone {self.timezone!r} is unknown; use a name such as Asia/Shanghai or UTC"
            ) from None


@dataclass(frozen=True, kw_only=True)
class Label:
    column: str


@dataclass(frozen=True, kw_only=True)
class Field:
    name: str
    kind: Literal["categorical", "numeric", "sequence"]
    column: str | None = None
    """Column of the log; the field's name when left out."""
    min_count: int = 1
    """Categorical, sequence: occurrences in the training part before a value gets its own id."""
    hash_buckets: int = 0
    """Categorical, sequence: hash values into this many ids instead of keeping a vocabulary."""
    max_length: int = 20
    """Sequence: the most recent (last) items that are kept."""
    separator: str = "|"
    """Sequence: what stands between the items of a text column; list columns don't need it."""
    history_of: str | None = None
    """Sequence: build behaviour history from this categorical field, whose ids it shares."""
    user: str | None = None
    """Sequence with `history_of`: the categorical field that says whose history it is."""

    def __post_init__(self) -> None:
        if not is_field_name(self.name):
            raise ValueError(
                f"field name {shown(self.name)} names columns and files, too: it may not be empty, "
                f"begin with `_`, have more than {MAX_NAME_BYTES} bytes, or hold a slash or "
                "anything that can't be printed"
            )
        if (self.history_of is None) != (self.user is None):
            raise ValueError(f"field {self.name}: `history_of` and `user` go together")
        if self.history_of is not None and self.kind != "sequence":
            raise ValueError(f"field {self.name}: `history_of` needs `kind: sequence`")
        if self.history_of is not None and (self.hash_buckets or self.column):
            raise ValueError(f"field {self.name}: a history takes its ids from `history_of`")
        if self.min_count < 1 or self.max_length < 1 or self.hash_buckets < 0:
            raise ValueError(
                f"field {self.name}: min_count and max_length must be at least 1, "
                "hash_buckets at least 0"
            )
        if self.max_length > MAX_LENGTH or self.hash_buckets > MAX_HASH_BUCKETS:
            raise ValueError(
                f"field {self.name}: max_length may be {MAX_LENGTH}, hash_buckets "
                f"{MAX_HASH_BUCKETS} at most"
            )
        if not self.separator:
            raise ValueError(f"field {self.name}: separator must not be empty")

    @property
    def source_column(self) -> str:
        return self.column or self.name


@dataclass(frozen=True, kw_only=True)
class Schema:
    timestamp: Timestamp
    label: Label
    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        counts = Counter(f.name for f in self.fields)
        if not counts:
            raise ValueError("fields: at least one field is needed")
        name, count = counts.most_common(1)[0]
        if count > 1:
            raise ValueError(f"fields: `{name}` is named {count} times")
        kinds = {f.name: f for f in self.fields}
        for f in self.fields:
            for reference in (f.history_of, f.user):
                if reference is not None and (
                    reference not in kinds or kinds[reference].kind != "categorical"
                ):
                    raise ValueError(f"field {f.name}: `{reference}` is no categorical field")
        used = [f.source_column for f in self.fields if f.history_of is None]
        if self.label.column in used:
            raise ValueError(f"label column `{self.label.column}` must not be a field as well")
        if self.label.column == self.timestamp.column:
            raise ValueError(f"column `{self.label.column}` can't be label and timestamp at once")

    @classmethod
    def load(cls, path: str | Path) -> Schema:
        """Reads a schema file. Raises `ConfigError` naming the file and key."""
        return from_mapping(cls, load_yaml(path), str(path))

    def of_kind(self, kind: Literal["categorical", "numeric", "sequence"]) -> tuple[Field, ...]:
        return tuple(f for f in self.fields if f.kind == kind)

    @property
    def columns(self) -> tuple[str, ...]:
        """The distinct columns that must be read from the log, timestamp and label first."""
        read = [self.timestamp.column, self.label.column]
        read += [f.source_column for f in self.fields if f.history_of is None]
        return tuple(dict.fromkeys(read))
