"""The synthetic log: the same however it is read, and made of exactly the effects it claims."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diet_ray.data.rows import LABEL, TIMESTAMP
from diet_ray.data.schema import Schema
from diet_ray.data.sources.base import read_serially
from diet_ray.data.sources.synthetic import (
    BLOCK_ROWS,
    DAY_MS,
    NUM_KINDS,
    SCHEMA,
    START_MS,
    SyntheticConfig,
    SyntheticSource,
    generate,
    world,
    write_synthetic,
)
from diet_ray.errors import DataError, OutputError

EXAMPLE = Path(__file__).parents[3] / "examples" / "synthetic" / "schema.yaml"
SMALL = SyntheticConfig(
    num_rows=150_000, num_users=400, num_items=300, num_categories=5, days=7, label_noise=0.0
)


def table(config: SyntheticConfig, first_row: int = 0, num_rows: int | None = None) -> pa.Table:
    num_rows = config.num_rows if num_rows is None else num_rows
    parts = list(generate(config, first_row, num_rows))
    return pa.concat_tables([SCHEMA.empty_table(), *parts]).combine_chunks()


@pytest.fixture(scope="module")
def whole() -> pa.Table:
    return table(SMALL)


def logit(config: SyntheticConfig) -> np.ndarray:
    p = table(config, 0, 20_000)["true_probability"].to_numpy()
    return np.log(p) - np.log1p(-p)


def spread(values: np.ndarray, *by: str) -> float:
    """The largest difference of values between rows that agree in the columns `by`."""
    frame = table(SMALL, 0, 20_000).select(list(by)).to_pandas()
    groups = pd.Series(values).groupby([frame[c] for c in by])
    return float((groups.max() - groups.min()).max())


@settings(max_examples=25)
@given(first_row=st.integers(0, 160_000), num_rows=st.integers(0, 140_000))
def test_any_range_of_rows_is_the_same(whole: pa.Table, first_row: int, num_rows: int) -> None:
    assert table(SMALL, first_row, num_rows).equals(whole.slice(first_row, num_rows))


def test_no_more_than_a_block_is_made_at_once() -> None:
    sizes = [t.num_rows for t in generate(SMALL, 1000, 150_000)]
    assert sum(sizes) == 149_000
    assert max(sizes) <= BLOCK_ROWS


def test_the_seed_decides(whole: pa.Table) -> None:
    assert table(SMALL).equals(whole)
    other = table(replace(SMALL, seed=1))
    for column in ("user_id", "item_id", "click", "price"):
        assert not other[column].equals(whole[column])


def test_rows_are_spread_evenly_over_the_period(whole: pa.Table) -> None:
    time = whole["timestamp"].to_numpy()
    assert (np.diff(time) >= 0).all()
    assert time[0] == START_MS
    per_day = np.bincount((time - START_MS) // DAY_MS)
    assert len(per_day) == 7
    assert np.ptp(per_day) <= 1
    hours = (time - START_MS) // (DAY_MS // 24) % 24
    assert (whole["hour"].to_numpy() == hours).all()


def test_labels_follow_the_true_probability(whole: pa.Table) -> None:
    p = whole["true_probability"].to_numpy()
    label = whole["click"].to_numpy()
    # In each tenth of the rows by probability, clicks are within 5 SD of their expectation.
    for rows in np.array_split(np.argsort(p), 10):
        sd = np.sqrt((p[rows] * (1 - p[rows])).sum())
        assert abs(label[rows].sum() - p[rows].sum()) < 5 * sd
    assert np.quantile(p, 0.9) - np.quantile(p, 0.1) > 0.4


def test_label_noise_bounds_the_probability_and_changes_nothing_else(whole: pa.Table) -> None:
    noisy = table(replace(SMALL, label_noise=0.2))
    clean_p = whole["true_probability"].to_numpy()
    np.testing.assert_allclose(noisy["true_probability"].to_numpy(), 0.6 * clean_p + 0.2)
    for column in set(SCHEMA.names) - {"true_probability", "click"}:
        assert noisy[column].equals(whole[column])


def test_crosses_are_an_effect_of_the_pairs_alone() -> None:
    effect = logit(SMALL) - logit(replace(SMALL, crosses=0.0))
    assert spread(effect, "category", "device", "hour") < 1e-6
    assert spread(effect, "category", "hour") > 0.5
    assert spread(effect, "category", "device") > 0.5
    assert spread(effect, "device", "hour") > 0.5


def test_taste_is_an_effect_of_user_and_item_together() -> None:
    still = replace(SMALL, drift=0.0)
    effect = logit(still) - logit(replace(still, taste=0.0))
    assert spread(effect, "user_id", "item_id") < 1e-5
    assert spread(effect, "user_id") > 1.0
    assert spread(effect, "item_id") > 1.0


def test_without_drift_only_an_items_age_changes_with_time() -> None:
    still = replace(SMALL, drift=0.0, new_item_share=0.0, crosses=0.0)
    p = table(still)
    age = 0.5 * np.exp(-p["item_age_days"].to_numpy() / 3.0)
    frame = p.select(["user_id", "item_id", "true_probability"]).to_pandas()
    rest = np.log(frame["true_probability"] / (1 - frame["true_probability"])) - age
    groups = rest.groupby([frame["user_id"], frame["item_id"]])
    assert (groups.max() - groups.min()).max() < 2e-3  # ages are rounded
    moving = table(replace(still, drift=1.0)).select(["true_probability"]).to_pandas()
    rest = np.log(moving["true_probability"] / (1 - moving["true_probability"])) - age
    groups = rest.groupby([frame["user_id"], frame["item_id"]])
    assert (groups.max() - groups.min()).max() > 1.0


def test_items_appear_over_time_and_are_shown_while_new(whole: pa.Table) -> None:
    frame = whole.to_pandas()
    day = (frame["timestamp"] - START_MS) // DAY_MS
    first_day = day.groupby(frame["item_id"]).min()
    # Half of the 300 items are new, about 150 / 7 of them each day.
    assert (first_day > 0).sum() == pytest.approx(150 * 6 / 7, abs=8)
    assert first_day.groupby(first_day).size()[1:].between(15, 28).all()
    assert first_day.is_monotonic_increasing  # ids are in order of birth
    old = table(replace(SMALL, new_item_share=0.0)).to_pandas()
    assert (old["item_age_days"] * DAY_MS - (old["timestamp"] - START_MS)).abs().max() < DAY_MS


def test_a_file_a_day_holds_the_same_rows(tmp_path: Path, whole: pa.Table) -> None:
    files = write_synthetic(SMALL, tmp_path / "log")
    assert [f.name for f in files] == [f"day-{d:03d}.parquet" for d in range(7)]
    assert sorted((tmp_path / "log").iterdir()) == list(files)
    tables = [pq.read_table(f) for f in files]
    assert pa.concat_tables(tables).combine_chunks().equals(whole)
    for day, rows in enumerate(tables):
        assert set((rows["timestamp"].to_numpy() - START_MS) // DAY_MS) == {day}


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(OutputError, match="exists already"):
        write_synthetic(SMALL, tmp_path)
    with pytest.raises(OutputError, match="exists already"):
        write_synthetic(SMALL, tmp_path / "mine")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_as_a_source_it_gives_the_same_rows(whole: pa.Table) -> None:
    config = replace(SMALL, num_rows=300_001)
    source = SyntheticSource.open(config, Schema.load(EXAMPLE))
    assert [s.num_rows for s in source.shards] == [262_144, 37_857]
    rows = pa.concat_tables(read_serially(source))
    expected = table(config)
    assert rows[TIMESTAMP].to_numpy().tolist() == (expected["timestamp"].to_numpy() * 1000).tolist()
    assert (rows[LABEL].to_numpy() == expected["click"].to_numpy()).all()
    for column in ("user_id", "item_id", "price"):
        assert (rows[column].to_numpy() == expected[column].to_numpy()).all()


def test_a_schema_with_other_columns_is_refused() -> None:
    example = Schema.load(EXAMPLE)
    field = replace(example.fields[0], name="colour")
    with pytest.raises(DataError, match="synthetic log: no column `colour`"):
        SyntheticSource.open(SMALL, replace(example, fields=(field,)))


def test_logs_of_very_few_rows_and_items() -> None:
    tiny = SyntheticConfig(num_rows=3, num_users=1, num_items=1, num_categories=1, days=1)
    assert table(tiny).num_rows == 3
    assert set(table(tiny)["item_id"].to_pylist()) == {0}


@pytest.mark.parametrize(
    "bad",
    [{"num_rows": 0}, {"seed": -1}, {"drift": -0.1}, {"new_item_share": 1.0}, {"label_noise": 0.6}],
)
def test_settings_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must|at least"):
        SyntheticConfig(**bad)  # type: ignore[arg-type]


def test_interest_follows_the_kind_that_a_user_is_after() -> None:
    """With interest alone, the true probability has two values, and a user's own changes."""
    config = replace(
        SMALL, interest=2.0, interest_days=1.0, taste=0.0, crosses=0.0, drift=0.0, num_rows=20_000
    )
    w = world(config)
    rows = table(config).to_pandas()
    base = table(replace(config, interest=0.0)).to_pandas()
    for column in ("user_id", "item_id", "timestamp"):
        assert rows[column].equals(base[column])

    def log_odds(p: pd.Series) -> np.ndarray:
        return np.log(p / (1 - p)).to_numpy()

    added = log_odds(rows["true_probability"]) - log_odds(base["true_probability"])
    root = np.sqrt(NUM_KINDS - 1)
    matches = added > 0
    np.testing.assert_allclose(added, np.where(matches, 2 * root, -2 / root), rtol=1e-6)
    assert abs(matches.mean() - 1 / NUM_KINDS) < 0.02
    rows["kind"], rows["match"] = w.item_kind[rows["item_id"]], matches
    wanted = rows[rows["match"]].groupby("user_id")["kind"].nunique()
    assert wanted.max() > 3
    # At any one time a user is after one kind.
    day = (rows["timestamp"] - START_MS) // (DAY_MS // 24)
    assert rows[rows["match"]].groupby(["user_id", day])["kind"].nunique().mean() < 1.1
