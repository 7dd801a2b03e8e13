"""Stages that are not like those before them: days that are missing, labels that have turned."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from scipy.special import bdtr, bdtrc

from diet_ray.data.intake import IntakeConfig
from diet_ray.data.log import Stage
from diet_ray.data.schema import Schema
from diet_ray.errors import DataError

_CHANCE = 1e-9
"""So unlikely is a stage refused whose odds did not change beyond what is allowed."""
_ENOUGH = 10
"""Rows of either class, before there are odds to compare with."""


def checked(
    stages: Iterable[Stage],
    earlier: Sequence[Stage],
    schema: Schema,
    config: IntakeConfig,
    by_day: bool,
) -> Iterator[Stage]:
    """Passes new stages on that follow `earlier` ones.

    Raises `DataError` for labels that shifted, and, as configured, warns of missing days or raises.
    """
    zone = ZoneInfo(schema.timestamp.timezone)
    positive = sum(_positive(s) for s in earlier)
    rows = sum(s.num_rows for s in earlier)
    last = earlier[-1] if earlier else None
    missing: list[date] = []
    for stage in stages:
        limit, found = config.max_label_shift, _positive(stage)
        if limit is not None and shifted(found, stage.num_rows, positive, rows, limit):
            raise DataError(
                f"the rows from {_day(stage.start_us, zone)} on: column `{schema.label.column}`: "
                f"{found} of {stage.num_rows} labels are 1, where {positive} of {rows} were "
                "before: are all labels there? See `intake: max_label_shift`"
            )
        positive, rows = positive + found, rows + stage.num_rows
        if by_day and last is not None:
            missing += _days_between(last, stage, zone)
        last = stage
        yield stage
    if missing and config.missing_days != "allow":
        text = f"{len(missing)} day(s) without rows, the first is {missing[0]}"
        if config.missing_days == "refuse":
            raise DataError(
                f"{text}: add them, or set `intake: missing_days` to warn or allow; a day can't be "
                "added once later ones are there"
            )
        warnings.warn(text, stacklevel=2)


def shifted(positive: int, rows: int, positive_before: int, rows_before: int, limit: float) -> bool:
    """Whether so many positive rows can't be chance, even at odds `limit` times those before."""
    negative_before = rows_before - positive_before
    if min(positive_before, negative_before) < _ENOUGH:
        return False
    odds = positive_before / negative_before
    low, high = odds / limit, odds * limit
    # The binomial distribution and its complement; scipy.stats takes a second to import.
    too_few = bdtr(positive, rows, low / (1 + low)) < _CHANCE
    too_many = bdtrc(positive - 1, rows, high / (1 + high)) < _CHANCE
    return bool(too_few or too_many)


def _positive(stage: Stage) -> int:
    return sum(stage.strata[1::2])


def _day(timestamp_us: int, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(timestamp_us // 1_000_000, zone).date()


def _days_between(before: Stage, after: Stage, zone: ZoneInfo) -> list[date]:
    first, last = _day(before.end_us, zone), _day(after.start_us, zone)
    return [first + timedelta(days=i) for i in range(1, (last - first).days)]
