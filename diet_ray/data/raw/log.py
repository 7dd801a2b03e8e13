"""What an adapter says about a public log, for the passes over it to work with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_ray.data.schema import Field, Label, Schema, Timestamp
from diet_ray.errors import ConfigError

TIME = "time"
"""Column of the prepared log; µs since epoch, or the number of the row in a log without time."""
LABEL = "label"
MAX_DAYS = 100
"""A longer log of unknown kind is cut by rows, not by days."""


class Cleaned(NamedTuple):
    """Rows that stay, with a column `time` (int64 µs), and how many were dropped why."""

    rows: pa.Table
    dropped: dict[str, int]


class Part(Protocol):
    """A piece of the raw log that one task reads."""

    def read(self) -> Iterator[pa.Table]: ...


@dataclass(frozen=True, kw_only=True)
class Negatives:
    """Rows with label 0, drawn for each row of a log that holds positive events alone.

    An item is drawn uniformly among those that occurred strictly before the row's instant, so none
    is drawn before it exists; the row's other columns stay. What is drawn depends on the seed and
    the row's place in the log alone.
    """

    per_row: int
    item: str
    attributes: tuple[str, ...] = ()
    """Columns that belong to the item, taken from where it first occurs."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class RawLog:
    """A recognised log. Plain data and importable functions, so that it can be sent to workers."""

    schema: Schema
    parts: tuple[Part, ...]
    """In the order of their rows."""
    clean: Callable[[pa.Table], Cleaned]
    """Raw rows of a part to rows that are worth sorting. In a log without time, `time` isn't set
    here."""
    finish: Callable[[pa.Table], pa.Table]
    """Sorted rows to the columns of the schema, besides `time`."""
    has_time: bool = True
    drop_duplicates: bool = False
    """Of rows that are equal in all columns, the first is kept."""
    negatives: Negatives | None = None
    stages: Literal["day", "rows", "auto"] = "day"
    """What a stage is; `auto`: a day if the log isn't longer than `MAX_DAYS`."""
    test_days: int | None = None
    """The last local days are the test; None: the last tenth of the rows."""
    notes: tuple[str, ...] = ()
    """What the user should know about the files that were found."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `diet prepare` asks an adapter for."""

    label: str | None = None
    """One of the adapter's labels; None: its default."""
    negatives: int | None = None
    """Drawn for each row; None: not said."""
    seed: int = 0
    schema: Schema | None = None
    """For tables of any columns."""


def keep(table: pa.Table, wanted: np.ndarray, reason: str, dropped: dict[str, int]) -> pa.Table:
    """The rows where `wanted`; the others are counted."""
    num_dropped = len(wanted) - int(np.count_nonzero(wanted))
    if not num_dropped:
        return table
    dropped[reason] = dropped.get(reason, 0) + num_dropped
    return table.filter(pa.array(wanted))


def present(column: pa.ChunkedArray) -> np.ndarray:
    """(rows,) bool: where a column has a value."""
    found: np.ndarray = pc.is_valid(column).to_numpy()
    return found


def codes_of(column: pa.ChunkedArray, values: tuple[str, ...]) -> np.ndarray:
    """For each row of a dictionary column its index in `values`, int8; -1 where it is another."""
    codes = []
    for chunk in column.chunks:
        index = pc.fill_null(pc.index_in(chunk.dictionary, value_set=pa.array(values)), -1)
        codes.append(pc.fill_null(index.take(chunk.indices), -1).to_numpy(zero_copy_only=False))
    return np.concatenate(codes).astype(np.int8) if codes else np.zeros(0, np.int8)


def choose_label(options: Options, known: tuple[str, ...], name: str) -> str:
    """The label asked for, or the first known one. Raises `ConfigError`."""
    if options.label is None:
        return known[0]
    if options.label not in known:
        raise ConfigError(f"--label: {name} has {', '.join(known)}, not `{options.label}`")
    return options.label


def refuse_negatives(options: Options, name: str) -> None:
    """Raises `ConfigError` if negatives are asked for of a log whose rows have both labels."""
    if options.negatives is not None:
        raise ConfigError(
            f"--negatives: with this label {name} has rows of both classes; leave the option out"
        )


def negatives_for(
    options: Options,
    name: str,
    *,
    needed: bool,
    item: str,
    other_label: str,
    attributes: tuple[str, ...] = (),
) -> Negatives | None:
    """None if the label has rows of both classes. Raises `ConfigError` if negatives are needed and
    the user hasn't said how many, as they decide what a model learns, or the other way round."""
    if not needed:
        refuse_negatives(options, name)
        return None
    if options.negatives is None:
        raise ConfigError(
            f"{name} holds only what people did, nothing that they passed over: say how many "
            "negatives to draw for each event (`--negatives 1`; each is an item that occurred "
            f"before the event), or take `--label {other_label}`"
        )
    return Negatives(per_row=options.negatives, item=item, attributes=attributes, seed=options.seed)


def prepared_schema(*, fields: tuple[Field, ...], timezone: str = "UTC") -> Schema:
    """Of the rows that `diet prepare` writes, whatever the log."""
    return Schema(
        timestamp=Timestamp(column=TIME, unit="us", timezone=timezone),
        label=Label(column=LABEL),
        fields=fields,
    )


def categorical(*names: str, min_count: int = 1) -> tuple[Field, ...]:
    return tuple(Field(name=n, kind="categorical", min_count=min_count) for n in names)


def numeric(*names: str) -> tuple[Field, ...]:
    return tuple(Field(name=n, kind="numeric") for n in names)


def history(name: str, of: str, user: str, max_length: int = 50) -> Field:
    return Field(name=name, kind="sequence", history_of=of, user=user, max_length=max_length)
