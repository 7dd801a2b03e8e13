from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diet_ray.data.raw.clock import hours, local_us, utc_us, weekdays

ZONES = ("UTC", "Asia/Shanghai", "Asia/Kathmandu", "America/St_Johns", "Europe/Berlin")


@given(
    seconds=st.lists(st.integers(0, 2_000_000_000), min_size=1, max_size=20),
    zone=st.sampled_from(ZONES),
)
def test_local_time_is_that_of_zoneinfo(seconds: list[int], zone: str) -> None:
    times = np.array(seconds, np.int64) * 1_000_000
    local = [datetime.fromtimestamp(s, ZoneInfo(zone)) for s in seconds]
    assert hours(times, zone).tolist() == [t.hour for t in local]
    assert weekdays(times, zone).tolist() == [t.weekday() for t in local]
    naive = [int(t.replace(tzinfo=UTC).timestamp()) * 1_000_000 for t in local]
    assert local_us(times, zone).tolist() == naive


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "Asia/Kathmandu"])
def test_utc_is_the_inverse(zone: str) -> None:
    times = np.arange(0, 10) * 86_400_000_000 * 365 + 123_456
    assert (utc_us(local_us(times, zone), zone) == times).all()
