from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from diet_ray.errors import ConfigError, DataError
from tests.data.sources.public.prepared import encoded, prepared, write


def review(user: str, item: str, stars: float, when: int, **more: object) -> str:
    return json.dumps(
        {"reviewerID": user, "asin": item, "reviewerName": "J. \"M\"", "helpful": [0, 0],
         "reviewText": "Works, as\nit should", "overall": stars, "summary": "x",
         "unixReviewTime": when, "reviewTime": "07 23, 2014", **more}
    )  # fmt: skip


def test_json_lines_of_2014_and_2018(tmp_path: Path) -> None:
    raw = tmp_path / "reviews_Electronics_5.json.gz"
    lines = [
        review("A2SUAM1J3GNN3B", "0000013714", 5.0, 1406073600),
        review("AO94DHGC771SJ", "B00000JGVX", 2.0, 1370131200, verified=True, style={"a": "b"}),
        review("AO94DHGC771SJ", "B00000JGVX", 2.0, 1370131200, vote="3"),
    ]
    raw.write_bytes(gzip.compress("\n".join(lines).encode()))
    log = prepared(raw, tmp_path / "out")
    # The same review with more about it is still one.
    assert log.made.dropped == {"exact duplicates of another row": 1}
    assert log.column("item") == ["B00000JGVX", "0000013714"]
    assert log.column("label") == [0, 1]
    assert [t.year for t in log.column("time")] == [2013, 2014]


def test_json_lines_of_2023_are_in_milliseconds(tmp_path: Path) -> None:
    lines = [
        json.dumps({"rating": 4.0, "title": "t", "text": "x", "images": [], "asin": "B01",
                    "parent_asin": "B0BM4GX6TT", "user_id": "AFKZENTNBQ7A7V7UXW5JJI6UGRYQ",
                    "timestamp": 1588687728923, "helpful_vote": 0, "verified_purchase": True}),
    ]  # fmt: skip
    log = prepared(write(tmp_path / "x.jsonl", *lines), tmp_path / "out")
    assert log.column("item") == ["B0BM4GX6TT"]
    assert (
        log.column("time")[0].isoformat(timespec="milliseconds") == "2020-05-05T14:08:48.923+00:00"
    )


def test_bare_ratings_of_2014_and_2018_have_their_columns_swapped(tmp_path: Path) -> None:
    rows = [("A2SUAM1J3GNN3B", "0439886341", "1.0", "1334707200"),
            ("A1QGNMC6O1VW39", "B000000001", "5.0", "1397433600")]  # fmt: skip
    of_2014 = write(tmp_path / "ratings_2014.csv", *(",".join(r) for r in rows))
    of_2018 = write(
        tmp_path / "x.csv", *(f"{item},{user},{stars},{t}" for user, item, stars, t in rows)
    )
    for i, raw in enumerate((of_2014, of_2018)):
        log = prepared(raw, tmp_path / f"out-{i}")
        assert log.column("user") == ["A2SUAM1J3GNN3B", "A1QGNMC6O1VW39"]
        assert log.column("item") == ["0439886341", "B000000001"]
        assert log.column("label") == [0, 1]


def test_the_benchmark_files_histories_are_not_read(tmp_path: Path) -> None:
    raw = write(
        tmp_path / "Books.train.csv", "user_id,parent_asin,rating,timestamp,history",
        "AFKZENTNBQ7A7V7UXW5JJI6UGRYQ,B0BM4GX6TT,5.0,1588687728923,B01 B02",
    )  # fmt: skip
    log = prepared(raw, tmp_path / "out")
    assert log.table.column_names == ["time", "label", "user", "item", "weekday"]


def test_metadata_is_named(tmp_path: Path) -> None:
    raw = write(tmp_path / "meta.json", json.dumps({"asin": "B01", "title": "x"}))
    with pytest.raises(DataError, match="metadata: metadata isn't read; give the reviews"):
        prepared(raw, tmp_path / "out", "amazon")


def test_every_review_as_a_positive_needs_negatives(tmp_path: Path) -> None:
    raw = write(
        tmp_path / "x.json", *(review(f"A{i}", f"B{i:09d}", 1, 86_400 * i) for i in range(9))
    )
    with pytest.raises(ConfigError, match=r"--negatives 1.*--label liked"):
        prepared(raw, tmp_path / "out", label="review")
    log = prepared(raw, tmp_path / "out", label="review", negatives=1)
    assert sum(log.column("label")) == 9
    assert log.made.num_rows == 17


@pytest.mark.usefixtures("ray_cluster")
def test_the_log_can_be_encoded(tmp_path: Path) -> None:
    draw = random.Random(0)
    lines = (
        review(f"A{draw.randint(1, 20)}", f"B{draw.randint(1, 30):09d}", draw.randint(1, 5),
               1370131200 + i // 10 * 86_400) for i in range(400)
    )  # fmt: skip
    log = prepared(write(tmp_path / "x.json", *lines), tmp_path / "out")
    ready = encoded(log, tmp_path / "log")
    assert ready.num_train_rows + ready.num_test_rows == log.made.num_rows
    assert (ready.load(ready.test_stages).sequence > 0).any()
