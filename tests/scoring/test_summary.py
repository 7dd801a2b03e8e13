from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diet_ray.scoring.config import RowScore
from diet_ray.scoring.summary import Summary

TOP = 3
COARSE = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 2.0])
"""So that most values tie."""
LOGS = st.lists(st.tuples(COARSE, COARSE), min_size=1, max_size=30)


def summary(
    values: list[tuple[float, float]], first_row: int = 0, is_train: bool = True
) -> Summary:
    rows = np.arange(first_row, first_row + len(values))
    validation, leverage = np.array(values, dtype=np.float32).reshape(-1, 2).T
    scores: dict[RowScore, np.ndarray] = {
        "validation": validation,
        "leverage": leverage,
        "features": np.zeros((len(rows), 2), dtype=np.float32),
    }
    return Summary.of(rows, scores, TOP, is_train=is_train)


@given(LOGS, st.data())
def test_shards_merge_in_any_grouping_to_the_same_lists(
    values: list[tuple[float, float]], data: st.DataObject
):
    cuts = data.draw(st.sets(st.integers(1, max(1, len(values) - 1))))
    edges = sorted({0, len(values)} | {c for c in cuts if c < len(values)})
    parts = [summary(values[i:j], i) for i, j in itertools.pairwise(edges)]
    while len(parts) > 1:
        i = data.draw(st.integers(0, len(parts) - 2))
        j = data.draw(st.integers(i + 1, len(parts) - 1))
        parts.append(parts.pop(j).merged(parts.pop(i), TOP))
    whole, merged = summary(values), parts[0]
    assert merged.lists == whole.lists
    for name, moments in whole.moments.items():
        found = merged.moments[name]
        assert (found.num_rows, found.smallest, found.largest) == (
            moments.num_rows,
            moments.smallest,
            moments.largest,
        )
        assert found.mean == pytest.approx(moments.mean, abs=1e-12)
        assert found.sd == pytest.approx(moments.sd, abs=1e-6)


@given(LOGS)
def test_lists_are_the_extremes_and_ties_go_by_row_number(values: list[tuple[float, float]]):
    lists = summary(values, first_row=5).lists
    assert set(lists) == {"helpful", "harmful", "redundant"}
    for name, column, sign in (("helpful", 0, -1), ("harmful", 0, 1), ("redundant", 1, 1)):
        expected = sorted((sign * v[column], row) for row, v in enumerate(values, 5))[:TOP]
        assert lists[name].rows == tuple(row for _, row in expected)  # type: ignore[index]
        assert lists[name].values == tuple(sign * v for v, _ in expected)  # type: ignore[index]


@given(LOGS)
def test_moments_are_those_of_the_values(values: list[tuple[float, float]]):
    moments = summary(values).moments
    assert set(moments) == {"validation", "leverage"}
    column = np.array(values)[:, 0]
    assert moments["validation"].mean == pytest.approx(column.mean())
    assert moments["validation"].sd == pytest.approx(column.std(), abs=1e-6)


def test_test_rows_count_in_the_moments_and_in_no_list():
    train, test = summary([(1.0, 1.0)]), summary([(9.0, 0.0)], first_row=1, is_train=False)
    for merged in (train.merged(test, TOP), test.merged(train, TOP)):
        assert merged.moments["validation"].largest == 9.0
        assert all(extremes.rows == (0,) for extremes in merged.lists.values())


@pytest.mark.parametrize(
    ("scores", "by"),
    [
        (("full", "gradient"), "full"),
        (("gradient", "adam_self_influence", "full"), "adam_self_influence"),
        (("self_influence", "adam_self_influence"), "self_influence"),
        (("loss",), None),
    ],
)
def test_a_list_is_by_the_first_score_that_is_there(scores: tuple[RowScore, ...], by: str | None):
    values: dict[RowScore, np.ndarray] = {s: np.ones(2, dtype=np.float32) for s in scores}
    lists = Summary.of(np.arange(2), values, TOP).lists
    assert [e.score for e in lists.values()] == ([by] if by else [])


@given(LOGS)
def test_it_travels_as_json(values: list[tuple[float, float]]):
    found = summary(values)
    assert Summary.from_json(found.to_json()) == found


def test_the_spread_of_one_row_is_zero():
    moments = summary([(1e6 + 0.1, 0.0)]).moments["validation"]
    assert moments.sd == 0.0
    assert math.isclose(moments.mean, np.float32(1e6 + 0.1))
