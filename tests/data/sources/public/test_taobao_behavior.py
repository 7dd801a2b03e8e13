from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from diet_ray.errors import ConfigError
from tests.data.sources.public.prepared import encoded, prepared, write

START = 1_511_539_200
END = START + 9 * 86_400


def lines(num_rows: int = 400, seed: int = 0) -> list[str]:
    """Grouped by user, as published, in no order of time."""
    draw = random.Random(seed)
    return [
        f"{user},{draw.randint(1, 60)},{draw.randint(1, 9)},"
        f"{draw.choice(['pv', 'pv', 'buy', 'cart', 'fav'])},{draw.randrange(START, END)}"
        for user in range(10)
        for _ in range(num_rows // 10)
    ]


def test_what_lies_outside_the_nine_days_and_what_is_there_twice_is_dropped(tmp_path: Path) -> None:
    raw = write(
        tmp_path / "raw.csv",
        f"1,10,5,buy,{START}",
        f"1,10,5,pv,{START}",
        "2,11,5,pv,-2134949234",
        "2,11,5,pv,2122867355",
        f"2,12,5,pv,{START - 1}",
        f"2,12,5,pv,{END}",
        f"2,12,5,pv,{END - 1}",
        f"1,10,5,buy,{START}",
    )
    log = prepared(raw, tmp_path / "out", label="buy")
    assert log.made.dropped == {
        "rows outside 2017-11-25 to 2017-12-03": 4,
        "exact duplicates of another row": 1,
    }
    # Bought and clicked in one second are two events.
    assert log.column("label") == [1, 0, 0]
    assert log.made.files == ("2017-11-25.parquet", "2017-12-03.parquet")


def test_negatives_must_be_asked_for(tmp_path: Path) -> None:
    raw = write(tmp_path / "UserBehavior.csv", *lines())
    with pytest.raises(ConfigError, match=r"--negatives 1.*or take `--label buy`"):
        prepared(raw, tmp_path / "out")
    with pytest.raises(ConfigError, match="--negatives: with this label"):
        prepared(raw, tmp_path / "out", label="buy", negatives=1)
    assert not (tmp_path / "out").exists()


def test_clicks_are_the_default_positives(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw.csv", *lines())
    num_clicks = sum(",pv," in line for line in lines())
    log = prepared(raw, tmp_path / "out", negatives=2)
    assert sum(log.column("label")) == num_clicks
    assert log.made.dropped["rows that aren't clicks"] == 400 - num_clicks
    everything = prepared(raw, tmp_path / "any", label="any", negatives=1)
    assert sum(everything.column("label")) == 400


def test_an_item_with_two_categories(tmp_path: Path) -> None:
    """A row keeps its own; a drawn item has that of its first event."""
    events = [(1, 10, 3), (1, 10, 4), (2, 11, 7), (2, 11, 8)]
    events += [(3 + i, 20 + i, 9) for i in range(40)]
    raw = write(
        tmp_path / "raw.csv",
        *(f"{u},{i},{c},pv,{START + n}" for n, (u, i, c) in enumerate(events)),
    )
    rows = prepared(raw, tmp_path / "out", negatives=3).rows
    positive = [(r["item_id"], r["category_id"]) for r in rows if r["label"]]
    assert positive == [(i, c) for _, i, c in events]
    drawn = Counter((r["item_id"], r["category_id"]) for r in rows if not r["label"])
    assert drawn[10, 3] > 0
    assert drawn[11, 7] > 0
    assert not drawn[10, 4]
    assert not drawn[11, 8]


def test_hours_and_days_are_those_of_beijing(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw.csv", f"1,1,1,buy,{START}", f"1,2,1,pv,{START + 86_399}")
    log = prepared(raw, tmp_path / "out", label="buy")
    assert log.column("hour") == [0, 23]
    # 2017-11-25 was a Saturday.
    assert log.column("weekday") == [5, 5]


@pytest.mark.usefixtures("ray_cluster")
def test_the_log_can_be_encoded(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw.csv", *lines(1000))
    log = prepared(raw, tmp_path / "out", negatives=1)
    ready = encoded(log, tmp_path / "log")
    assert ready.num_test_rows == log.made.num_test_rows
    assert [s.role for s in ready.stages] == ["train"] * 8 + ["test"]
    assert (ready.load(ready.test_stages).sequence[:, 0] > 0).any()
