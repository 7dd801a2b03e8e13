from __future__ import annotations

import itertools
from datetime import datetime
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diet_ray.config import from_mapping
from diet_ray.data.rows import TIMESTAMP
from diet_ray.data.stages import StageConfig, cut, end_of_day_us
from diet_ray.errors import ConfigError

DAY_US = 86_400_000_000


def shards(
    timestamps: list[int],
    config: StageConfig,
    num_train_rows: int | None = None,
    *,
    cuts: tuple[int, ...] = (),
    timezone: str = "UTC",
) -> list[tuple[int, str, list[int], bool]]:
    """(stage, role, row numbers, last) of every shard."""
    rows = pa.table({TIMESTAMP: pa.array(timestamps, pa.int64()), "row": range(len(timestamps))})
    ends = [0, *sorted(cuts), len(timestamps)]
    tables = [rows.slice(a, b - a) for a, b in itertools.pairwise(ends)]
    pieces = cut(tables, config, timezone=timezone, num_train_rows=num_train_rows)
    return [(p.stage, p.role, p.rows["row"].to_pylist(), p.last) for p in pieces]


def test_days_by_hand() -> None:
    # Two days, of which the second holds the cut; the third has no rows, which is no stage.
    times = [0, 1, 2, DAY_US, DAY_US + 1, DAY_US + 2, 3 * DAY_US]
    assert shards(times, StageConfig(shard_rows=2), num_train_rows=5) == [
        (0, "train", [0, 1], False),
        (0, "train", [2], True),
        (1, "train", [3, 4], True),
        (2, "test", [5], True),
        (3, "test", [6], True),
    ]


def test_rows_by_hand() -> None:
    config = StageConfig(by="rows", rows=4, shard_rows=3)
    assert shards([0] * 11, config, num_train_rows=6) == [
        (0, "train", [0, 1, 2], False),
        (0, "train", [3], True),
        (1, "train", [4, 5], True),
        (2, "test", [6, 7, 8], False),
        (2, "test", [9], True),
        (3, "test", [10], True),
    ]


def test_a_long_day_is_cut_where_asked() -> None:
    found = shards([0, 0, 0, 0, 0, DAY_US], StageConfig(rows=2))
    assert [(s, r) for s, _, r, _ in found] == [(0, [0, 1]), (1, [2, 3]), (2, [4]), (3, [5])]


@given(
    gaps=st.lists(st.integers(0, DAY_US), min_size=1, max_size=30),
    by=st.sampled_from(["day", "rows"]),
    rows=st.integers(1, 9),
    shard_rows=st.integers(1, 7),
    num_train_rows=st.one_of(st.none(), st.integers(1, 30)),
    cuts=st.lists(st.integers(0, 30), max_size=6),
)
def test_stages_and_shards_depend_on_rows_alone(
    gaps: list[int],
    by: str,
    rows: int,
    shard_rows: int,
    num_train_rows: int | None,
    cuts: list[int],
) -> None:
    times = list(itertools.accumulate(gaps))
    config = StageConfig(by=by, rows=rows if by == "rows" else None, shard_rows=shard_rows)  # type: ignore[arg-type]
    inside = tuple(c for c in cuts if c <= len(times))
    found = shards(times, config, num_train_rows, cuts=inside)
    assert found == shards(times, config, num_train_rows)

    assert [r for _, _, part, _ in found for r in part] == list(range(len(times)))
    assert all(len(part) <= shard_rows for _, _, part, _ in found)
    limit = len(times) if num_train_rows is None else num_train_rows
    for stage, group in itertools.groupby(found, key=lambda shard: shard[0]):
        parts = list(group)
        members = [r for _, _, part, _ in parts for r in part]
        assert {role for _, role, _, _ in parts} == {"train" if members[0] < limit else "test"}
        assert not members[0] < limit <= members[-1]
        assert [last for *_, last in parts] == [False] * (len(parts) - 1) + [True]
        assert all(len(part) == shard_rows for _, _, part, _ in parts[:-1])
        if by == "day":
            assert len({times[r] // DAY_US for r in members}) == 1
        else:
            assert len(members) <= rows
        following = members[-1] + 1
        if following < len(times) and following != limit:
            ended = (
                times[following] // DAY_US > times[members[-1]] // DAY_US
                if by == "day"
                else len(members) == rows
            )
            assert ended, stage


def test_a_day_ends_at_local_midnight_also_when_clocks_change() -> None:
    for zone, day, hours in (
        ("Asia/Shanghai", (2022, 4, 8), 24),
        ("Europe/Berlin", (2022, 3, 27), 23),
        ("Europe/Berlin", (2022, 10, 30), 25),
    ):
        start = datetime(*day, tzinfo=ZoneInfo(zone)).timestamp()
        start_us, end_us = int(start) * 1_000_000, int(start + hours * 3600) * 1_000_000
        assert end_of_day_us(start_us, ZoneInfo(zone)) == end_us
        assert end_of_day_us(end_us - 1, ZoneInfo(zone)) == end_us
        assert end_of_day_us(end_us, ZoneInfo(zone)) > end_us
    evening = 16 * 3600 * 1_000_000  # midnight in Shanghai
    found = shards([evening - 1, evening], StageConfig(), timezone="Asia/Shanghai")
    assert [r for _, _, r, _ in found] == [[0], [1]]
    assert end_of_day_us(-1, ZoneInfo("UTC")) == 0


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({"by": "rows"}, "needs `rows`"),
        ({"rows": 0}, "rows must be at least 1"),
        ({"test_fraction": 1.0}, "test_fraction must lie in"),
        ({"test_fraction": -0.1}, "test_fraction must lie in"),
        ({"shard_rows": 0}, "shard_rows must be at least 1"),
        ({"by": "week"}, "is none of day, rows"),
    ],
)
def test_wrong_settings_are_refused(mapping: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=f"stages: .*{says}"):
        from_mapping(StageConfig, mapping, "stages")


def test_a_day_that_ends_twice_is_no_endless_day() -> None:
    """Where clocks go back over midnight, what lies between the two midnights is of the day."""
    zone = ZoneInfo("America/St_Johns")
    first_midnight_us = int(datetime(2010, 11, 7, tzinfo=zone).timestamp()) * 1_000_000
    between_us = first_midnight_us + 1_800_000_000
    assert datetime.fromtimestamp(between_us // 1_000_000, zone).day == 6
    end_us = end_of_day_us(between_us, zone)
    assert end_us > between_us
    assert datetime.fromtimestamp(end_us // 1_000_000, zone).day == 7
    times = [first_midnight_us - 1, between_us, between_us + 1, end_us]
    found = shards(times, StageConfig(), timezone="America/St_Johns")
    assert [row for _, _, rows, _ in found for row in rows] == [0, 1, 2, 3]
