"""What arrives broken: one test for each policy of `docs/operations.md`."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from diet_ray.data import prepare as prepare_module
from diet_ray.data import time_order
from diet_ray.data.encoding import NUMERIC_LIMIT
from diet_ray.data.intake import IntakeConfig
from diet_ray.data.log import PreparedLog
from diet_ray.data.prepare import append, prepare
from diet_ray.data.schema import Schema
from diet_ray.data.sources.base import read_serially
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.stage_checks import shifted
from diet_ray.data.stages import StageConfig
from diet_ray.data.vocabulary import HashedVocabulary
from diet_ray.errors import DataError
from tests.data.click_log import DAY_S, SCHEMA, START_S, click_rows, replaced, write_log

STAGES = StageConfig(shard_rows=40)
NOW_S = START_S + 400 * DAY_S


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_module, "read_in_order", read_serially)
    monkeypatch.setattr(time_order.time, "time", lambda: NOW_S)


@pytest.fixture(autouse=True)
def _no_warning_goes_unseen() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def prepared(
    folder: Path,
    rows: pa.Table,
    intake: IntakeConfig | None = None,
    schema: Schema = SCHEMA,
    **source: Any,
) -> PreparedLog:
    paths = write_log(folder / "raw", rows)
    config = SourceConfig(paths=paths, **source)
    return prepare(config, schema, STAGES, folder / "log", intake=intake or IntakeConfig())


def appended(
    folder: Path, rows: pa.Table, intake: IntakeConfig | None = None, **source: Any
) -> PreparedLog:
    paths = write_log(folder / f"more-{rows.num_rows}", rows)
    log = PreparedLog.open(str(folder / "log"))
    return append(log, SourceConfig(paths=paths, **source), intake=intake or IntakeConfig())


def encoded(log: PreparedLog) -> pa.Table:
    return pa.concat_tables([log.read_shard(s) for stage in log.stages for s in stage.shards])


def shifted_by(rows: pa.Table, seconds: int) -> pa.Table:
    time = pa.array(rows["time"].to_numpy() + seconds)
    return rows.set_column(rows.column_names.index("time"), "time", time)


def next_day(**kwargs: Any) -> pa.Table:
    return shifted_by(click_rows(100, days=1, seed=1, **kwargs), 6 * DAY_S)


# Late events.


def test_a_late_event_is_refused_by_row_or_left_out_and_counted(tmp_path: Path) -> None:
    rows = click_rows()
    late = replaced(rows, "time", 300, START_S)
    with pytest.raises(DataError, match=r"part-0\.parquet: row 301: .* comes after"):
        prepared(tmp_path / "a", late)
    with pytest.warns(UserWarning, match="left out of 600 rows: 1 late"):
        log = prepared(tmp_path / "b", late, IntakeConfig(max_dropped_share=0.01))
    keep = np.arange(600) != 300
    kept = prepared(tmp_path / "c", rows.filter(pa.array(keep)))
    assert encoded(log).equals(encoded(kept))


def test_more_late_events_than_allowed_are_refused(tmp_path: Path) -> None:
    rows = click_rows()
    order = pa.array(np.r_[100:600, 0:100])
    with pytest.raises(DataError, match=r"100 late rows .* are more than .*max_dropped_share"):
        prepared(tmp_path, rows.take(order), IntakeConfig(max_dropped_share=0.1))
    assert not (tmp_path / "log").exists()


def test_events_of_a_day_before_are_refused_or_left_out_of_an_update(tmp_path: Path) -> None:
    prepared(tmp_path, click_rows())
    late = pa.concat_tables([next_day(), shifted_by(next_day(), -3 * DAY_S).slice(0, 1)])
    with pytest.raises(DataError, match="comes after"):
        appended(tmp_path, late)
    with pytest.warns(UserWarning, match="1 late"):
        log = appended(tmp_path, late, IntakeConfig(max_dropped_share=0.05))
    assert sum(s.num_rows for s in log.stages) == 700


# Duplicated events.


def test_duplicates_are_kept_dropped_or_refused(tmp_path: Path) -> None:
    rows = click_rows(seed=4)
    twice = rows.take(pa.array(np.sort(np.r_[0:600, 10:60])))
    assert sum(s.num_rows for s in prepared(tmp_path / "a", twice).stages) == 650
    with pytest.raises(DataError, match="equals an earlier one in every column"):
        prepared(tmp_path / "b", twice, IntakeConfig(duplicates="refuse"))
    with pytest.warns(UserWarning, match="50 duplicates"):
        log = prepared(tmp_path / "c", twice, IntakeConfig(duplicates="drop"))
    assert encoded(log).equals(encoded(prepared(tmp_path / "d", rows)))


def test_rows_that_differ_in_one_column_are_no_duplicates(tmp_path: Path) -> None:
    rows = click_rows(seed=4).take(pa.array(np.repeat(np.arange(300), 2)))
    tags = [[*t, "x"] if i % 2 else t for i, t in enumerate(rows["tags"].to_pylist())]
    rows = rows.set_column(rows.column_names.index("tags"), "tags", pa.array(tags))
    log = prepared(tmp_path, rows, IntakeConfig(duplicates="refuse"))
    assert sum(s.num_rows for s in log.stages) == 600


# Clock skew.


def test_a_row_of_the_future_is_refused_or_left_out(tmp_path: Path) -> None:
    ahead = replaced(click_rows(), "time", 599, NOW_S + 2 * DAY_S)
    with pytest.raises(DataError, match=r"row 600: .* lies in the future of this machine's clock"):
        prepared(tmp_path / "a", ahead)
    with pytest.warns(UserWarning, match="1 of the future"):
        log = prepared(tmp_path / "b", ahead, IntakeConfig(max_dropped_share=0.01))
    assert log.stages[-1].end_us < NOW_S * 1_000_000
    with pytest.warns(UserWarning, match="day"):
        log = prepared(tmp_path / "c", ahead, IntakeConfig(max_ahead_s=None))
    assert log.stages[-1].end_us > NOW_S * 1_000_000


def test_a_clock_that_is_a_little_fast_is_no_matter(tmp_path: Path) -> None:
    rows = shifted_by(click_rows(), NOW_S + 3600 - int(click_rows()["time"][599].as_py()))
    assert prepared(tmp_path, rows).stages[-1].end_us > NOW_S * 1_000_000


def test_a_row_ahead_among_others_doesn_t_make_the_others_late(tmp_path: Path) -> None:
    ahead = replaced(click_rows(), "time", 5, NOW_S + 2 * DAY_S)
    with pytest.warns(UserWarning, match="0 late, 1 of the future"):
        log = prepared(tmp_path, ahead, IntakeConfig(max_dropped_share=0.01))
    assert sum(s.num_rows for s in log.stages) == 599


# A stage delivered twice.


@pytest.mark.parametrize(
    "intake", [IntakeConfig(), IntakeConfig(max_dropped_share=0.2, duplicates="drop")]
)
@pytest.mark.parametrize("sort", [False, True])
def test_a_day_delivered_twice_changes_nothing(
    tmp_path: Path, intake: IntakeConfig, sort: bool
) -> None:
    prepared(tmp_path, click_rows())
    log = appended(tmp_path, next_day())
    before = (tmp_path / "log" / "log.json").read_bytes()
    with pytest.raises(DataError, match=r"older than|late rows"):
        appended(tmp_path, next_day(), intake, sort=sort)
    assert (tmp_path / "log" / "log.json").read_bytes() == before
    assert PreparedLog.open(log.path).fingerprint == log.fingerprint


# A day missing.


def test_a_missing_day_is_told_refused_or_allowed(tmp_path: Path) -> None:
    rows = click_rows()
    day = (rows["time"].to_numpy() - START_S) // DAY_S
    holes = rows.filter(pa.array((day != 2) & (day != 3)))
    with pytest.warns(UserWarning, match=re.escape("2 day(s) without rows, the first is 2022-04-")):
        prepared(tmp_path / "a", holes)
    with pytest.raises(DataError, match="without rows"):
        prepared(tmp_path / "b", holes, IntakeConfig(missing_days="refuse"))
    prepared(tmp_path / "c", holes, IntakeConfig(missing_days="allow"))


def test_a_day_missing_before_an_update_is_told(tmp_path: Path) -> None:
    prepared(tmp_path, click_rows())
    with pytest.warns(UserWarning, match=re.escape("1 day(s) without rows")):
        appended(tmp_path, shifted_by(next_day(), DAY_S))


# Schema drift.


def test_a_new_column_is_ignored_and_a_missing_one_refused(tmp_path: Path) -> None:
    prepared(tmp_path, click_rows())
    more = next_day().append_column("new", pa.array(range(100)))
    assert appended(tmp_path, more).generation == 1
    with pytest.raises(DataError, match="no column `price`"):
        appended(tmp_path, shifted_by(next_day(), DAY_S).drop_columns(["price"]).slice(0, 99))


@pytest.mark.parametrize("kind", [pa.uint64(), pa.float64(), pa.string()])
def test_an_id_of_another_type_is_the_same_id(tmp_path: Path, kind: pa.DataType) -> None:
    rows = click_rows()
    large = pa.array(rows["item"].to_numpy() + 10**15)
    rows = rows.set_column(rows.column_names.index("item"), "item", large)
    more = shifted_by(rows.slice(0, 100), 6 * DAY_S)
    drifted = more.set_column(more.column_names.index("item"), "item", more["item"].cast(kind))
    logs = []
    for name, later in (("a", more), ("b", drifted)):
        prepared(tmp_path / name, rows)
        logs.append(encoded(appended(tmp_path / name, later)))
    assert logs[0].equals(logs[1])


def test_a_number_that_became_text_is_refused(tmp_path: Path) -> None:
    prepared(tmp_path, click_rows())
    more = next_day()
    more = more.set_column(
        more.column_names.index("price"), "price", more["price"].cast(pa.string())
    )
    with pytest.raises(DataError, match="column `price`: a number is expected"):
        appended(tmp_path, more)


def test_an_exploding_vocabulary_is_refused_before_it_is_kept(tmp_path: Path) -> None:
    prepared(tmp_path, click_rows(), IntakeConfig(max_values=60))
    more = next_day()
    users = pa.array([f"session-{i}" for i in range(100)])
    more = more.set_column(more.column_names.index("user"), "user", users)
    before = (tmp_path / "log" / "log.json").read_bytes()
    with pytest.raises(DataError, match=r"field `user`: .* distinct values are more than"):
        appended(tmp_path, more, IntakeConfig(max_values=60))
    assert (tmp_path / "log" / "log.json").read_bytes() == before


# NaN, infinities, and numbers beyond all measure.


def test_numbers_without_a_value_are_the_mean_and_no_number_is_without_bound(
    tmp_path: Path,
) -> None:
    rows = click_rows()
    price = rows["price"].to_numpy(zero_copy_only=False).copy()
    # Hardly any spread in the first stage makes later values huge in terms of it.
    price[:] = 50 + np.arange(600) % 2 * 1e-6
    price[590:] = [np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 0.0, -0.0, 1e30, 50.0]
    rows = rows.set_column(rows.column_names.index("price"), "price", pa.array(price))
    found = encoded(prepared(tmp_path, rows))["price"].to_numpy()
    assert found[590:593].tolist() == [0.0, 0.0, 0.0]
    assert found[593] == found[598] == NUMERIC_LIMIT
    assert found[594] == -NUMERIC_LIMIT
    assert np.isfinite(found).all()
    assert np.abs(found).max() == NUMERIC_LIMIT


# Label shift.


@pytest.mark.parametrize("label", [0, 1])
def test_a_day_of_one_class_is_refused(tmp_path: Path, label: int) -> None:
    prepared(tmp_path, click_rows())
    more = next_day()
    same = pa.array(np.full(100, label, dtype=np.int8))
    more = more.set_column(more.column_names.index("click"), "click", same)
    before = (tmp_path / "log" / "log.json").read_bytes()
    with pytest.raises(DataError, match=f"column `click`: {100 * label} of 100 labels are 1"):
        appended(tmp_path, more, IntakeConfig(max_label_shift=2.0))
    assert (tmp_path / "log" / "log.json").read_bytes() == before
    appended(tmp_path, more, IntakeConfig(max_label_shift=None))


def test_a_shift_is_judged_by_odds_and_not_by_chance() -> None:
    # One in ten before. At odds 20 times lower, 1 in 181, none of 5,000 is no chance.
    assert shifted(0, 5_000, 1_000, 10_000, 20.0)
    assert not shifted(0, 1_000, 1_000, 10_000, 20.0)
    assert not shifted(30, 5_000, 1_000, 10_000, 20.0)
    assert shifted(5_000, 5_000, 1_000, 10_000, 20.0)
    # Without odds to speak of there is nothing to compare with.
    assert not shifted(0, 5_000, 9, 10_000, 20.0)


# Ids that collide under hashing.


def test_colliding_ids_share_an_id_and_nothing_else(tmp_path: Path) -> None:
    fields = tuple(
        dataclasses.replace(f, hash_buckets=1) if f.name == "user" else f for f in SCHEMA.fields
    )
    rows = click_rows()
    with pytest.warns(UserWarning, match="field `user`: about 100% of its values share an id"):
        hashed = prepared(tmp_path / "a", rows, schema=dataclasses.replace(SCHEMA, fields=fields))
    plain = prepared(tmp_path / "b", rows)
    users = encoded(hashed)["user"].to_pylist()
    assert set(users) == {1, 2}
    # A history is the user's own, whoever shares the id.
    assert encoded(hashed)["seen"].equals(encoded(plain)["seen"])
    assert encoded(hashed)["item"].equals(encoded(plain)["item"])


def test_the_share_of_colliding_values_is_estimated() -> None:
    vocabulary = HashedVocabulary(1_000)
    vocabulary.learn(pa.array([f"v{i}" for i in range(1_000)]))
    assert vocabulary.colliding_share == pytest.approx(1 - np.exp(-1), abs=0.05)


# A file that rots on its disk.


def test_a_flipped_byte_of_a_stage_is_never_read_as_another_row(tmp_path: Path) -> None:
    log = prepared(tmp_path, click_rows(120, days=1))
    shard = log.stages[0].shards[0]
    path = Path(log.path) / shard.file
    rows, content = log.read_shard(shard), path.read_bytes()
    num_refused = 0
    for place in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            found = log.read_shard(shard)
        except DataError:
            num_refused += 1
        else:
            assert found.equals(rows)
    assert num_refused > 100
