"""Behaviour history against its definition, however the stream is cut."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from diet_ray.data.history import NO_USER, History, UserKeys

EVENT = st.tuples(
    st.integers(-1, 3),  # user; -1: missing
    st.integers(1, 9),  # item
    st.booleans(),
    st.integers(0, 2),  # time since the row before
)


def columns(events: list[tuple[int, int, bool, int]]) -> tuple[np.ndarray, ...]:
    users, items, positive, gaps = (np.array(c) for c in zip(*events, strict=True))
    return users.astype(np.int32), items.astype(np.int32), positive, np.cumsum(gaps)


def reference(events: list[tuple[int, int, bool, int]], length: int) -> list[list[int]]:
    users, items, positive, times = (c.tolist() for c in columns(events))
    rows = []
    for i, user in enumerate(users):
        past = [
            items[j] for j in range(i) if positive[j] and users[j] == user and times[j] < times[i]
        ]
        kept = past[-length:] if user != NO_USER else []
        rows.append(kept + [0] * (length - len(kept)))
    return rows


def advanced(history: History, events: list, start: int, end: int) -> list[list[int]]:
    if start == end:
        return []
    part = [c[start:end] for c in columns(events)]
    return history.advance(*part).tolist()


@given(
    events=st.lists(EVENT, min_size=1, max_size=40),
    length=st.integers(1, 5),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    restart=st.integers(0, 40),
)
def test_histories_follow_the_definition(
    events: list, length: int, cuts: list[int], restart: int
) -> None:
    history = History(length)
    found: list[list[int]] = []
    ends = sorted({*cuts, restart, len(events)} & set(range(len(events) + 1)))
    for start, end in zip([0, *ends], ends, strict=False):
        found += advanced(history, events, start, end)
        if end == restart and end:
            saved = history.to_table([f"u{k}" for k in range(4)])
            history = History(length)
            history.restore(saved, int(columns(events)[3][end - 1]), num_codes=1000)
    assert found == reference(events, length)


def test_rows_of_one_instant_do_not_see_each_other_across_blocks() -> None:
    history = History(3)
    one = np.array([0], dtype=np.int32)

    def step(item: int, time: int) -> list[int]:
        return history.advance(one, np.array([item], np.int32), np.array([True]), np.array([time]))[
            0
        ].tolist()

    assert step(5, 10) == [0, 0, 0]
    assert step(6, 10) == [0, 0, 0]
    assert step(7, 11) == [5, 6, 0]
    assert step(8, 12) == [5, 6, 7]
    assert step(9, 13) == [6, 7, 8]


def test_users_keep_their_keys_and_missing_ones_have_none() -> None:
    keys = UserKeys()
    assert keys.of(pa.array(["b", None, "a", "b"])).tolist() == [0, NO_USER, 1, 0]
    assert keys.values() == ["b", "a"]
    again = UserKeys()
    again.restore(keys.values())
    assert again.of(pa.array(["a", "c"])).tolist() == [1, 2]


def test_a_saved_history_says_whose_it_is() -> None:
    history = History(2)
    users = np.array([1, 0, 1, 1], dtype=np.int32)
    items = np.array([4, 5, 6, 7], dtype=np.int32)
    history.advance(users, items, np.ones(4, dtype=bool), np.array([1, 2, 3, 3]))
    assert history.to_table(["a", "b"]).to_pylist() == [
        {"user": "a", "items": [5], "held": []},
        {"user": "b", "items": [4], "held": [6, 7]},
    ]
