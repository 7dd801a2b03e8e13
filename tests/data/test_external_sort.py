from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diet_ray.data import external_sort
from diet_ray.data.external_sort import sort_by_time
from diet_ray.data.rows import TIMESTAMP


def sorted_rows(
    times: list[int], cuts: list[int], scratch: Path, run_rows: int, merge_rows: int
) -> list[tuple[int, int]]:
    table = pa.table({TIMESTAMP: pa.array(times, pa.int64()), "row": range(len(times))})
    ends = [0, *sorted(c for c in cuts if c <= len(times)), len(times)]
    tables = [table.slice(a, b - a) for a, b in itertools.pairwise(ends)]
    out = list(sort_by_time(tables, scratch, run_rows=run_rows, merge_rows=merge_rows))
    assert list(scratch.iterdir()) == []
    return [(t, r) for o in out for t, r in zip(*o.to_pydict().values(), strict=True)]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_sort, "_CHUNK_ROWS", 3)


@given(
    times=st.lists(st.integers(0, 12), max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=8),
    run_rows=st.integers(1, 25),
    merge_rows=st.integers(1, 40),
)
def test_rows_come_in_order_of_time_and_of_position_among_equals(
    times: list[int], cuts: list[int], run_rows: int, merge_rows: int
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        found = sorted_rows(times, cuts, Path(scratch), run_rows, merge_rows)
    assert found == sorted((t, r) for r, t in enumerate(times))


def test_all_rows_at_one_instant_keep_their_order(tmp_path: Path) -> None:
    found = sorted_rows([5] * 50, list(range(0, 50, 7)), tmp_path, 8, 6)
    assert found == [(5, r) for r in range(50)]


def test_a_merge_holds_a_part_of_the_rows_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []
    load = external_sort._Run.load

    def counted(run: external_sort._Run) -> None:
        load(run)
        held.append(run.rows.num_rows)

    monkeypatch.setattr(external_sort._Run, "load", counted)
    times = np.random.default_rng(0).permutation(3000).tolist()
    cuts = list(range(0, 3000, 100))
    found = sorted_rows(times, cuts, tmp_path, run_rows=300, merge_rows=120)
    assert [t for t, _ in found] == list(range(3000))
    assert max(held) <= 2 * 120 // 10
