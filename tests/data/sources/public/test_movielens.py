from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from diet_ray.data.sources.public import known
from tests.data.sources.public.prepared import encoded, prepared, write


def test_100k(tmp_path: Path) -> None:
    raw = tmp_path / "ml-100k"
    write(
        raw / "u.data", "196\t242\t3\t881250949", "186\t302\t4\t891717742", "196\t1\t5\t881250949"
    )
    # Splits that come with it repeat its rows.
    write(raw / "u1.base", "196\t242\t3\t881250949")
    write(raw / "u1.test", "186\t302\t4\t891717742")
    write(raw / "u.user", "196|49|M|writer|55105", "186|39|F|executive|T8H1N")
    flags = ["0"] * 19
    flags[5] = flags[3] = "1"
    unknown = ["1"] + ["0"] * 18
    write(
        raw / "u.item",
        "|".join(["242", "Misérables, Les (1995)", "01-Jan-1995", "", "http://x", *flags]),
        "|".join(["302", "L.A. Confidential (1997)", "01-Jan-1997", "", "http://y", *unknown]),
        encoding="latin-1",
    )
    write(raw / "README", "hello", "you")
    log = prepared(raw, tmp_path / "out")
    assert log.made.dropped == {"exact duplicates of another row": 2}
    rows = log.rows
    assert [r["film_id"] for r in rows] == [242, 1, 302]
    assert [r["label"] for r in rows] == [0, 1, 1]
    assert [r["genres"] for r in rows] == ["Animation|Comedy", None, None]
    assert [r["year"] for r in rows] == [1995, None, 1997]
    assert [r["occupation"] for r in rows] == ["writer", "writer", "executive"]
    assert [r["area"] for r in rows] == ["55105", "55105", "T8H1N"]
    assert log.made.files == ("1997-12-04.parquet",)


def test_1m(tmp_path: Path) -> None:
    raw = tmp_path / "ml-1m"
    write(raw / "r", "1::1193::5::978300760", "1::661::3::978302109", "2::1193::4::978298413")
    write(raw / "u", "1::F::1::10::48067", "2::M::56::16::70072-1234")
    write(
        raw / "m",
        "1193::One Flew Over the Cuckoo's Nest (1975)::Drama",
        "661::Été, L' (1996)::Animation|Children's|Musical",
        encoding="latin-1",
    )
    log = prepared(raw, tmp_path / "out")
    assert log.column("user_id") == [2, 1, 1]
    assert log.column("gender") == ["M", "F", "F"]
    assert log.column("genres") == ["Drama", "Drama", "Animation|Children's|Musical"]
    assert log.column("year") == [1975, 1975, 1996]
    assert log.column("label") == [1, 1, 0]
    assert prepared(raw, tmp_path / "five", label="five-stars").column("label") == [0, 1, 0]


def test_20m_and_later(tmp_path: Path) -> None:
    raw = tmp_path / "ml-latest"
    write(raw / "ratings.csv", "userId,movieId,rating,timestamp", "1,2,3.5,1112486027",
          "1,29,4.5,1112484676", "1,3,4.0,1112484676")  # fmt: skip
    write(
        raw / "movies.csv", "movieId,title,genres",
        '2,"American President, The (1995)",Comedy|Drama',
        '29,"""Great Performances"" Cats (1998)",(no genres listed)', "3,Untitled,Drama",
    )  # fmt: skip
    write(raw / "tags.csv", "userId,movieId,tag,timestamp", "1,2,fun,1112486027")
    log = prepared(raw, tmp_path / "out")
    assert log.column("film_id") == [29, 3, 2]
    # Half stars, of which 3.5 isn't four.
    assert log.column("label") == [1, 1, 0]
    assert log.column("genres") == [None, "Drama", "Comedy|Drama"]
    assert log.column("year") == [1998, None, 1995]
    assert "tags, links and scores" in " ".join(log.remarks)


def test_10m_has_half_stars_and_no_users(tmp_path: Path) -> None:
    raw = write(tmp_path / "ratings", "1::122::5::838985046", "1::185::3.5::838983525")
    assert known.recognise(known.starts_of(str(raw))).name == "movielens"
    log = prepared(raw, tmp_path / "out")
    assert log.column("label") == [0, 1]
    assert "no file of films" in log.notes[0]


def rating(draw: random.Random, i: int) -> dict[str, Any]:
    return {"user": i % 12 + 1, "film": draw.randint(1, 40), "stars": draw.randint(1, 5),
            "time": 978300760 + draw.randint(0, 90) * 3600}  # fmt: skip


@pytest.mark.usefixtures("ray_cluster")
def test_the_log_can_be_encoded_and_films_rated_at_once_do_not_see_each_other(
    tmp_path: Path,
) -> None:
    draw = random.Random(0)
    rows = [rating(draw, i) for i in range(400)]
    lines = [f"{r['user']}::{r['film']}::{r['stars']}::{r['time']}" for r in rows]
    log = prepared(write(tmp_path / "ratings.dat", *lines), tmp_path / "out")
    ready = encoded(log, tmp_path / "log")
    assert ready.num_train_rows + ready.num_test_rows == log.made.num_rows
    batch = ready.load(ready.stages)
    sequence = batch.sequence[:, 0]
    for row, seen in zip(log.rows, sequence.tolist(), strict=True):
        earlier = [r for r in log.rows if r["user_id"] == row["user_id"] and r["label"]
                   and r["time"] < row["time"]]  # fmt: skip
        assert sum(s > 0 for s in seen) == min(50, len(earlier))


def test_rows_without_a_time_are_left_out(tmp_path: Path) -> None:
    raw = tmp_path / "ml-32m"
    rows = [f"{u},{f},4.0,{1_700_000_000 + u}" for u in range(1, 4) for f in (7, 8)]
    write(raw / "ratings.csv", "userId,movieId,rating,timestamp", *rows, "9,9,4.0,")
    write(raw / "movies.csv", "movieId,title,genres", "7,A (1999),Drama", "8,B (1999),Drama")
    log = prepared(raw, tmp_path / "out")
    assert log.made.dropped == {"rows without a time": 1}
    assert len(log.rows) == 6
