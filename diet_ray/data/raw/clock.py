"""Local time of many instants at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

QUARTER_US = 900_000_000
"""Offsets from UTC are whole quarters of an hour."""
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


def local_us(times_us: np.ndarray, timezone: str) -> np.ndarray:
    """The wall clock's µs since 1970-01-01 00:00 local, of int64 µs since epoch."""
    quarters, inverse = np.unique(times_us // QUARTER_US, return_inverse=True)
    zone = ZoneInfo(timezone)
    return times_us + np.array([_offset_us(int(q), zone) for q in quarters], np.int64)[inverse]


def utc_us(local_times_us: np.ndarray, timezone: str) -> np.ndarray:
    """The inverse of `local_us`, for zones whose offset doesn't change between the two."""
    quarters, inverse = np.unique(local_times_us // QUARTER_US, return_inverse=True)
    zone = ZoneInfo(timezone)
    offsets = [_local_offset_us(int(q), zone) for q in quarters]
    return local_times_us - np.array(offsets, np.int64)[inverse]


def hours(times_us: np.ndarray, timezone: str) -> np.ndarray:
    """Hour of the local day, 0 to 23, int8."""
    return (local_us(times_us, timezone) // HOUR_US % 24).astype(np.int8)


def weekdays(times_us: np.ndarray, timezone: str) -> np.ndarray:
    """0 for Monday to 6 for Sunday, int8."""
    # 1970-01-01 was a Thursday.
    return ((local_us(times_us, timezone) // DAY_US + 3) % 7).astype(np.int8)


def _offset_us(quarter: int, zone: ZoneInfo) -> int:
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=quarter * QUARTER_US)
    return _microseconds(instant.astimezone(zone))


def _local_offset_us(quarter: int, zone: ZoneInfo) -> int:
    local = datetime(1970, 1, 1) + timedelta(microseconds=quarter * QUARTER_US)
    return _microseconds(local.replace(tzinfo=zone))


def _microseconds(moment: datetime) -> int:
    offset = moment.utcoffset()
    assert offset is not None
    return offset // timedelta(microseconds=1)
