"""What is proposed for a table that nobody has described."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diet_ray.data.infer import sample as sample_module
from diet_ray.data.infer.proposal import Proposal, propose
from diet_ray.data.infer.sample import in_time_order, take_sample
from diet_ray.data.infer.write import write_proposal
from diet_ray.data.schema import Schema
from diet_ray.distillation.config import load_distill_config
from diet_ray.errors import DataError, OutputError
from tests.kuairand import SAMPLE

HEADER = (
    "event_id,ts,user_id,itemId,price,age_group,tags,country,review,clicked,dwell_ms,constant,empty"
)


def lines(num_rows: int = 600, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    rows = []
    for i in range(num_rows):
        clicked = int(draw.random() < 0.3)
        tags = "|".join(draw.sample(["a", "b", "c", "d"], draw.randint(1, 3)))
        review = " ".join(draw.choice(["well", "it", "broke", str(i)]) for _ in range(12))
        dwell = draw.randint(5_000, 90_000) if clicked else draw.randint(0, 800)
        rows.append(
            f"{10_000 + i},{1_700_000_000 + i * 60},u{draw.randint(1, 50)},{draw.randint(1, 99)},"
            f"{draw.random() * 20:.2f},{draw.randint(1, 7)},{tags},{draw.choice(['NL', 'FR', ''])},"
            f"{review},{clicked},{dwell},7,"
        )
    return rows


def proposed(path: Path, *rows: str) -> Proposal:
    path.write_text("\n".join(rows) + "\n")
    return propose(take_sample(str(path)))


def kinds(found: Proposal) -> dict[str, str]:
    return {f.name: f.kind for f in found.schema.fields}


def test_columns_get_the_kind_that_their_values_and_names_speak_for(tmp_path: Path) -> None:
    found = proposed(tmp_path / "clicks.csv", HEADER, *lines())
    assert found.schema.timestamp.column == "ts"
    assert found.schema.timestamp.unit == "s"
    assert found.schema.label.column == "clicked"
    assert kinds(found) == {
        "user_id": "categorical",
        "itemId": "categorical",
        "price": "numeric",
        "age_group": "categorical",
        "tags": "sequence",
        "country": "categorical",
        "past_itemId": "sequence",
    }
    fields = {f.name: f for f in found.schema.fields}
    assert fields["tags"].separator == "|"
    assert (fields["past_itemId"].history_of, fields["past_itemId"].user) == ("itemId", "user_id")
    assert found.remarks["country"].startswith("2 values, 3")
    assert found.remarks["country"].endswith("% missing")


def test_what_is_no_field_is_left_out_with_a_reason(tmp_path: Path) -> None:
    found = proposed(tmp_path / "clicks.csv", HEADER, *lines())
    assert set(found.left_out) == {"event_id", "review", "dwell_ms", "constant", "empty"}
    assert "row's own id" in found.left_out["event_id"]
    assert found.left_out["review"] == "free text"
    assert "an outcome?" in found.left_out["dwell_ms"]
    assert found.left_out["constant"] == "one value everywhere"
    assert found.left_out["empty"] == "always empty"


def test_outcomes_of_the_event_are_left_out_of_a_real_log() -> None:
    found = propose(take_sample(str(SAMPLE)))
    assert found.schema.label.column == "is_click"
    assert kinds(found) == {
        "user_id": "categorical",
        "video_id": "categorical",
        "hourmin": "categorical",
        "duration_ms": "numeric",
        "past_video_id": "sequence",
    }
    assert "what came of the event" in found.left_out["play_time_ms"]
    assert "no later row has again" in found.left_out["date"]


@pytest.mark.parametrize(
    ("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)]
)
def test_units_of_time(tmp_path: Path, unit: str, factor: int) -> None:
    rows = [f"{(1_700_000_000 + i) * factor},{i % 2},{i % 3}" for i in range(50)]
    found = proposed(tmp_path / "x.csv", "when,label,kind", *rows)
    assert found.schema.timestamp.unit == unit


@pytest.mark.parametrize(
    "text",
    ["2024-05-01T10:00:00Z", "2024-05-01 10:00:00", "2024-05-01", "2024-05-01T10:00:00+02:00"],
)
def test_times_as_text(tmp_path: Path, text: str) -> None:
    rows = [f"{text},{i % 2},{i % 3}" for i in range(50)]
    assert proposed(tmp_path / "x.csv", "when,label,kind", *rows).schema.timestamp.column == "when"


def test_the_better_of_several_labels_is_taken_and_the_others_named(tmp_path: Path) -> None:
    rows = [f"{1_700_000_000 + i},{i // 2 % 2},{i % 2},{i % 3}" for i in range(60)]
    found = proposed(tmp_path / "x.csv", "time,is_weekend,is_click,kind", *rows)
    assert found.schema.label.column == "is_click"
    assert "could also be is_weekend" in found.remarks["label"]


def test_ids_with_many_values_get_a_threshold_or_are_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(0)
    rows = [
        f"{1_700_000_000 + i},{i % 2},{int(draw.paretovariate(0.4)) % 10**9}" for i in range(9000)
    ]
    path = tmp_path / "x.csv"
    (field, *_) = proposed(path, "time,label,item_id", *rows).schema.fields
    assert (field.min_count, field.hash_buckets) == (2, 0)
    monkeypatch.setattr(sample_module, "SAMPLE_ROWS", 1)
    monkeypatch.setattr("diet_ray.data.infer.proposal.MANY_VALUES", 5_000)
    (field, *_) = propose(take_sample(str(path))).schema.fields
    assert (field.min_count, field.hash_buckets) == (1, 5_000)


def test_ranges_are_no_lists_and_codes_keep_their_zeros(tmp_path: Path) -> None:
    rows = [f'{1_700_000_000 + i},{i % 2},"({i % 4},{i % 4 + 10}]",0{i % 8}' for i in range(80)]
    found = proposed(tmp_path / "x.csv", "time,label,fans_range,zip", *rows)
    assert kinds(found) == {"fans_range": "categorical", "zip": "categorical"}


def test_delimiters_are_found(tmp_path: Path) -> None:
    for delimiter in "\t;|":
        rows = [delimiter.join([str(1_700_000_000 + i), str(i % 2), str(i % 5)]) for i in range(40)]
        path = tmp_path / "x.csv"
        found = proposed(path, delimiter.join(["time", "label", "kind"]), *rows)
        assert kinds(found) == {"kind": "categorical"}
        assert take_sample(str(path)).delimiter == delimiter


def test_parquet_with_lists_and_its_own_types(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    n = 100
    times = [datetime(2024, 5, 1, tzinfo=UTC).timestamp() + i for i in range(n)]
    pq.write_table(
        pa.table(
            {
                "at": pa.array([int(t * 1e6) for t in times], pa.timestamp("us", "UTC")),
                "converted": [i % 3 == 0 for i in range(n)],
                "seen": [[f"v{i % 4}", "x"] for i in range(n)],
                "score": [i * 0.37 % 1 for i in range(n)],
            }
        ),
        path,
    )
    found = propose(take_sample(str(path)))
    assert found.schema.timestamp.column == "at"
    assert found.schema.label.column == "converted"
    assert kinds(found) == {"seen": "sequence", "score": "numeric"}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["a,b", "x,y", "z,w"], "no column looks like a time"),
        (["time,b", "1700000000,5", "1700000001,6"], "no column holds just 0 and 1"),
        (["1700000000,0,5", "1700000001,1,5"], "its first line names no columns"),
    ],
)
def test_what_can_not_be_a_log_is_refused(tmp_path: Path, rows: list[str], says: str) -> None:
    with pytest.raises(DataError, match=says):
        proposed(tmp_path / "x.csv", *rows)


def test_order_is_looked_for_in_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_module, "SAMPLE_ROWS", 10)
    path = tmp_path / "x.parquet"
    times = [*range(1_700_000_000, 1_700_100_000), 1_600_000_000]
    for values, expected in ((times[:-1], True), (times, False)):
        columns: dict[str, Any] = {"time": values, "label": [i % 2 for i in range(len(values))]}
        pq.write_table(pa.table(columns), path)
        sample = take_sample(str(path))
        assert not sample.is_whole
        assert in_time_order(sample, "time") is expected


def test_the_files_written_can_be_read_and_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    path = tmp_path / "raw" / "clicks.csv"
    shuffled = lines()
    random.Random(1).shuffle(shuffled)
    path.write_text("\n".join([HEADER, *shuffled]) + "\n")
    schema, configuration = write_proposal(str(path), tmp_path / "made")
    text = schema.read_text()
    assert "# Left out: dwell_ms: tells the label by itself" in text
    assert "are 1" in text
    assert Schema.load(schema) == propose(take_sample(str(path))).schema
    config = load_distill_config(configuration)
    assert config.source.sort
    assert Path(config.source.paths[0]).resolve() == path
    with pytest.raises(OutputError, match=r"schema\.yaml: exists already"):
        write_proposal(str(path), tmp_path / "made")


def test_types_are_those_of_many_rows(tmp_path: Path) -> None:
    """A column that begins with nothing, or with whole numbers, for a megabyte and more."""
    rows = [f"{1_700_000_000 + i},u{i % 50},{i % 9},,{i % 2}" for i in range(60_000)]
    rows += [f"{1_700_100_000 + i},u{i % 50},{i % 9}.5,NL,{i % 2}" for i in range(600)]
    file = tmp_path / "clicks.csv"
    file.write_text("\n".join(["ts,user_id,price,country,clicked", *rows]) + "\n")
    schema = take_sample(str(file)).rows.schema
    assert schema.field("price").type == pa.float64()
    assert schema.field("country").type == pa.string()


def test_columns_that_no_field_may_be_called_like_get_another_name(tmp_path: Path) -> None:
    num_rows = 400
    path = tmp_path / "clicks.parquet"
    table = pa.table(
        {
            "_c0": [i % 7 for i in range(num_rows)],
            "a/b": [i % 5 for i in range(num_rows)],
            "a_b": [i % 6 for i in range(num_rows)],
            "é" * 150: [i % 6 for i in range(num_rows)],
            "user/id": [i % 30 for i in range(num_rows)],
            "item/id": [i % 31 for i in range(num_rows)],
            "past_item_id": [i % 9 for i in range(num_rows)],
            "ts": [1_700_000_000 + 60 * i for i in range(num_rows)],
            "click": [int(i % 3 == 0) for i in range(num_rows)],
        }
    )
    pq.write_table(table, path)
    schema, _ = write_proposal(str(path), tmp_path / "proposed")
    fields = {f.source_column: f.name for f in Schema.load(schema).fields if not f.history_of}
    long = fields.pop("é" * 150)
    assert long == "é" * 98
    assert fields == {
        "_c0": "c0",
        "a/b": "a_b_2",
        "a_b": "a_b",
        "user/id": "user_id",
        "item/id": "item_id",
        "past_item_id": "past_item_id",
    }
    history = next(f for f in Schema.load(schema).fields if f.history_of)
    assert (history.name, history.history_of, history.user) == (
        "past_item_id_2",
        "item_id",
        "user_id",
    )


def test_nested_columns_are_left_out(tmp_path: Path) -> None:
    table = pa.table(
        {
            "ts": [1_700_000_000 + 60 * i for i in range(200)],
            "click": [int(i % 3 == 0) for i in range(200)],
            "item": [i % 7 for i in range(200)],
            "context": [{"x": i} for i in range(200)],
            "seen": [[{"x": i}] for i in range(200)],
        }
    )
    pq.write_table(table, tmp_path / "clicks.parquet")
    found = propose(take_sample(str(tmp_path / "clicks.parquet")))
    assert [f.name for f in found.schema.fields] == ["item"]
    assert found.left_out["context"].startswith("type struct")
    assert found.left_out["seen"].startswith("type list")


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column 'item' is there twice"):
        proposed(tmp_path / "clicks.csv", "ts,click,item,item", "1700000000,1,3,4")
