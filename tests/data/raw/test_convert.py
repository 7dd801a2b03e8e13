"""The two passes against a plain sort, however the log is cut and wherever tasks run."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diet_ray.data.raw import convert as convert_module
from diet_ray.data.raw import parquet_files, runs
from diet_ray.data.raw.convert import Converted, convert
from diet_ray.data.raw.log import LABEL, TIME, Negatives, RawLog
from diet_ray.data.raw.output import tail_fraction
from diet_ray.data.raw.tasks import InProcess, RayTasks, Tasks, local_tasks
from diet_ray.errors import DataError, OutputError
from tests.data.raw.made_log import events, raw_log


def made(log: RawLog, out: Path, tasks: Tasks | None = None) -> tuple[Converted, pa.Table]:
    report = convert(lambda scratch: log, tasks or InProcess(), out, about="made")
    tables = [pq.read_table(out / "log" / name) for name in report.files]
    return report, pa.concat_tables(tables, promote_options="default").unify_dictionaries()


def cut(table: pa.Table, cuts: list[int]) -> list[pa.Table]:
    places = [0, *sorted(c % (table.num_rows + 1) for c in cuts), table.num_rows]
    return [table.slice(a, b - a) for a, b in pairwise(places)]


@settings(max_examples=25)
@given(
    cuts=st.lists(st.integers(0, 1000), max_size=4),
    sort_rows=st.sampled_from([3, 17, 1000]),
    run_rows=st.sampled_from([40, 1000]),
)
def test_rows_come_in_order_of_time_and_then_of_the_files(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], sort_rows: int, run_rows: int
) -> None:
    rows = events(300)
    with pytest.MonkeyPatch.context() as patch:
        # Three rows at a time is less than some instants have.
        patch.setattr(parquet_files, "SORT_ROWS", sort_rows)
        patch.setattr(runs, "RUN_ROWS", run_rows)
        log = raw_log(*cut(rows, cuts))
        report, found = made(log, tmp_path_factory.mktemp("convert") / "out")
    order = np.argsort(rows[TIME].to_numpy(), kind="stable")
    assert found["place"].to_pylist() == order.tolist()
    expected = rows.take(pa.array(order))
    assert found["name"].cast(pa.string()).equals(expected["name"].cast(pa.string()))
    assert report.files == ("1970-01-01.parquet", "1970-01-02.parquet", "1970-01-03.parquet")
    assert report.num_read == report.num_rows == 300


def test_no_more_rows_than_the_limit_are_sorted_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_files, "SORT_ROWS", 32)
    seen: list[int] = []
    slices = parquet_files._slice

    def counted(run: object, times: object, begin: int, end: int) -> pa.Table:
        seen.append(end - begin)
        return slices(run, times, begin, end)  # type: ignore[arg-type]

    monkeypatch.setattr(parquet_files, "_slice", counted)
    one_instant = events(500).set_column(0, TIME, pa.array(np.zeros(500, np.int64)))
    _, found = made(raw_log(*cut(one_instant, [100, 350])), tmp_path / "out")
    assert max(seen) <= 32
    assert found["place"].to_pylist() == list(range(500))


@pytest.mark.usefixtures("ray_cluster")
def test_where_tasks_run_changes_nothing(tmp_path: Path) -> None:
    """Processes and Ray tasks pass results in whatever order they end."""
    rows = events(400)
    negatives = Negatives(per_row=2, item="item", attributes=(), seed=3)
    log = raw_log(
        *cut(rows.drop_columns([LABEL]), [90, 200, 290]), negatives=negatives, drop_duplicates=True
    )
    report, found = made(log, tmp_path / "here")
    with local_tasks(2) as tasks:
        in_processes = made(log, tmp_path / "processes", tasks)
    on_ray = made(log, tmp_path / "ray", RayTasks())
    for other_report, other in (in_processes, on_ray):
        assert other_report == report
        assert other.equals(found)
    names = sorted(p.name for p in (tmp_path / "here" / "log").iterdir())
    for folder in ("processes", "ray"):
        for name in names:
            a, b = (tmp_path / f / "log" / name for f in ("here", folder))
            assert a.read_bytes() == b.read_bytes()


@pytest.mark.usefixtures("ray_cluster")
def test_an_error_in_a_task_is_what_the_user_sees(tmp_path: Path) -> None:
    with local_tasks(2) as processes:
        for tasks in (InProcess(), processes, RayTasks()):
            with pytest.raises(DataError, match=r"^x: broken$"):
                convert(lambda scratch: broken_log(), tasks, tmp_path / "out", about="")
            assert not list(tmp_path.iterdir())


def broken(raw: pa.Table) -> object:
    raise DataError("x: broken")


def broken_log() -> RawLog:
    from dataclasses import replace

    return replace(raw_log(events(10), events(10)), clean=broken)  # type: ignore[arg-type]


def test_equal_rows_are_dropped_once_wherever_they_stand(tmp_path: Path) -> None:
    rows = events(60).drop_columns(["place"])
    doubled = pa.concat_tables([rows, rows.slice(10, 20), rows.slice(5, 1)])
    report, found = made(raw_log(*cut(doubled, [37, 70]), drop_duplicates=True), tmp_path / "out")
    distinct = {tuple(r.values()) for r in rows.to_pylist()}
    assert found.num_rows == len(distinct)
    assert report.dropped == {"exact duplicates of another row": doubled.num_rows - len(distinct)}


def test_a_log_without_time_keeps_its_order_and_is_cut_by_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert_module, "FILE_ROWS", 100)
    rows = events(250).drop_columns([TIME])
    log = raw_log(*cut(rows, [60, 120, 200]), has_time=False, stages="rows")
    report, found = made(log, tmp_path / "out")
    assert found["place"].to_pylist() == found[TIME].to_pylist() == list(range(250))
    assert report.files == ("00000.parquet", "00001.parquet")


def test_days_are_joined_where_they_are_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert_module, "FILE_ROWS", 100)
    report, found = made(raw_log(events(400, days=40), stages="rows"), tmp_path / "out")
    assert 3 <= len(report.files) <= 4
    assert found[TIME].to_pylist() == sorted(found[TIME].to_pylist())
    # Too many days for a file each.
    many, _ = made(raw_log(events(400, days=150), stages="auto"), tmp_path / "many")
    few, _ = made(raw_log(events(400, days=40), stages="auto"), tmp_path / "few")
    assert len(many.files) <= 4
    assert len(few.files) == 40


def test_the_folder_must_be_new(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(OutputError, match="out: exists already"):
        made(raw_log(events(10)), tmp_path / "out")
    assert (tmp_path / "out" / "mine").exists()
    # What a killed run left behind goes away, and an empty folder is taken.
    left = tmp_path / ".new.unfinished" / "scratch"
    left.mkdir(parents=True)
    (left / "000000-0000.times").write_bytes(b"12345678")
    (tmp_path / "new").mkdir()
    made(raw_log(events(10)), tmp_path / "new")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "distill.yaml", "log", "prepare.json", "schema.yaml",
    ]  # fmt: skip
    assert not left.exists()


@given(num_rows=st.integers(1, 10**9), share=st.floats(0, 1))
def test_the_tail_is_exact(num_rows: int, share: float) -> None:
    num_test = int(num_rows * share)
    text = tail_fraction(num_rows, num_test)
    # As `diet_ray.data.prepare` computes it from the number that YAML reads.
    assert round(num_rows * Fraction(str(float(text)))) == num_test
