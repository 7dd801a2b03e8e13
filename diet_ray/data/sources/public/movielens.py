"""MovieLens: film ratings, editions 100K, 1M, 10M, 20M and later (GroupLens).

Files: u.data, u.user and u.item (100K); ratings.dat, users.dat and movies.dat, separated by `::`
(1M; 10M has no users); ratings.csv and movies.csv with headers (20M and later). Tags, links and
genome scores aren't read.

Label: `liked` (default): four stars or more; `five-stars`: five. Split: by time; the last tenth of
the rows is the test. Stages are cut by rows: the log spans years.
Features: user and film, the user's gender, age, occupation and area (100K, 1M), genres and year of
the film, hour, weekday. History: the user's earlier films with label 1.
Traps: u.item and movies.dat are Latin-1; titles hold commas and quotes; halves of stars from 10M
on; "(no genres listed)" is no genre; rows come grouped by user; people rate many films in one
second, which then don't see each other; u1.base, ua.test and their kin repeat u.data, and repeated
rows are dropped and counted.

Published on other tasks, not comparable: BARS's MovielensLatest_x1 (2 million tag assignments,
random split, AUC) FM 0.9434, DeepFM 0.9685, DCNv2 0.9691, FinalMLP 0.9720.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_ray.data.raw import features
from diet_ray.data.raw.chunks import cut_files
from diet_ray.data.raw.clock import hours, weekdays
from diet_ray.data.raw.features import FeatureTable
from diet_ray.data.raw.formats import TextFormat
from diet_ray.data.raw.log import (
    LABEL,
    TIME,
    Cleaned,
    Options,
    RawLog,
    categorical,
    choose_label,
    history,
    keep,
    numeric,
    prepared_schema,
    present,
    refuse_negatives,
)
from diet_ray.data.raw.start import Start
from diet_ray.data.schema import Field
from diet_ray.data.sources.public.adapter import Adapter, Files, Role

ZONE = "UTC"
STARS = {"liked": 4.0, "five-stars": 5.0}
GENRES = (
    None, "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip
"""In the order of u.item's flags; the first one stands for none."""
_FLAGS = tuple(f"flag{i}" for i in range(len(GENRES)))
_RATING = re.compile(r"\d+(\t|::)\d+\1[0-5](\.\d)?\1\d{8,10}")
_USERS_100K = re.compile(r"\d+\|\d+\|[MF]\|[a-z]+\|\w+")
_USERS_1M = re.compile(r"\d+::[MF]::\d+::\d+::[\w-]+")
_FILMS_100K = re.compile(r"\d+\|.*(\|[01]){19}")
_FILMS_DAT = re.compile(r"\d+::.*::.*")
_RATING_TYPES = {
    "user_id": pa.int32(), "film_id": pa.int32(), "rating": pa.float32(), "timestamp": pa.int64(),
}  # fmt: skip
_USER_TYPES = {"gender": pa.string(), "age": pa.string(), "occupation": pa.string(),
               "area": pa.string()}  # fmt: skip


def recognise(start: Start) -> Role | None:
    if start.header[:4] == ("userId", "movieId", "rating", "timestamp"):
        return Role(name="log")
    if start.header[:3] == ("movieId", "title", "genres"):
        return Role(name="films csv")
    if start.header[:3] in (
        ("userId", "movieId", "tag"),
        ("movieId", "imdbId", "tmdbId"),
        ("movieId", "tagId", "relevance"),
    ):
        return Role(name="other", unused="tags, links and scores aren't fields; give the ratings")
    lines = start.lines[:20]
    for pattern, role in (
        (_RATING, "log"), (_USERS_100K, "users 100K"), (_USERS_1M, "users 1M"),
        (_FILMS_100K, "films 100K"), (_FILMS_DAT, "films dat"),
    ):  # fmt: skip
        if lines and all(pattern.fullmatch(line) for line in lines):
            return Role(name=role)
    return None


def open_log(files: Files, options: Options, scratch: Path) -> RawLog:
    label = choose_label(options, tuple(STARS), "movielens")
    refuse_negatives(options, "movielens")
    logs = []
    for start in files["log"]:
        header = start.lines[0].startswith("userId")
        delimiter = "," if header else "::" if "::" in start.lines[0] else "\t"
        text = TextFormat(
            columns=tuple(_RATING_TYPES), types=_RATING_TYPES, delimiter=delimiter, header=header
        )
        logs.append((start, text))
    users, films = _users(files, scratch), _films(files, scratch)
    user_fields = tuple(users.columns) if users else ()
    fields: tuple[Field, ...] = (
        *categorical("user_id", "film_id", *user_fields, "hour", "weekday"),
        history("liked", "film_id", "user_id"),
    )
    if films:
        fields += (
            Field(name="genres", kind="sequence", separator="|", max_length=6),
            *numeric("year"),
        )
    return RawLog(
        schema=prepared_schema(
            timezone=ZONE,
            fields=fields,
        ),
        parts=cut_files(logs),
        clean=functools.partial(_clean, stars=STARS[label]),
        finish=functools.partial(_finish, users=users, films=films),
        drop_duplicates=True,
        stages="rows",
        notes=() if films else ("no file of films was found, so there are no genres",),
    )


def _clean(raw: pa.Table, stars: float) -> Cleaned:
    dropped: dict[str, int] = {}
    raw = keep(raw, present(raw["timestamp"]), "rows without a time", dropped)
    label = pc.greater_equal(raw["rating"], stars).cast(pa.int8())
    rows = {
        TIME: pc.multiply(raw["timestamp"], 1_000_000),
        LABEL: label,
        "user_id": raw["user_id"],
        "film_id": raw["film_id"],
    }
    return Cleaned(pa.table(rows), dropped)


def _finish(rows: pa.Table, users: FeatureTable | None, films: FeatureTable | None) -> pa.Table:
    times = rows[TIME].to_numpy()
    columns = {name: rows[name] for name in rows.column_names}
    columns |= {"hour": pa.array(hours(times, ZONE)), "weekday": pa.array(weekdays(times, ZONE))}
    for table, key in ((users, "user_id"), (films, "film_id")):
        if table is not None:
            columns |= table.look_up(rows[key].combine_chunks())
    return pa.table(columns)


def _users(files: Files, scratch: Path) -> FeatureTable | None:
    for role, delimiter, names in (
        ("users 100K", "|", ("user_id", "age", "gender", "occupation", "area")),
        ("users 1M", "::", ("user_id", "gender", "age", "occupation", "area")),
    ):
        if role in files:
            text = TextFormat(
                columns=names, types={"user_id": pa.int32(), **_USER_TYPES}, delimiter=delimiter
            )
            return _table(files[role], text, "user_id", scratch, lambda t: t)
    return None


def _films(files: Files, scratch: Path) -> FeatureTable | None:
    types = {"film_id": pa.int32(), "title": pa.string(), "genres": pa.string()}
    columns = tuple(types)
    if "films csv" in files:
        text = TextFormat(columns=columns, types=types, header=True, quoted=True)
        return _table(files["films csv"], text, "film_id", scratch, _film_features)
    if "films dat" in files:
        encoding = "utf8" if files["films dat"][0].encoding == "utf8" else "latin-1"
        text = TextFormat(columns=columns, types=types, delimiter="::", encoding=encoding)
        return _table(files["films dat"], text, "film_id", scratch, _film_features)
    if "films 100K" in files:
        names = ("film_id", "title", "released", "video_released", "url", *_FLAGS)
        flags = dict.fromkeys(_FLAGS, pa.int8())
        text = TextFormat(
            columns=names,
            types={"film_id": pa.int32(), "title": pa.string(), **flags},
            delimiter="|",
            encoding="latin-1",
        )
        return _table(files["films 100K"], text, "film_id", scratch, _flagged_film_features)
    return None


def _table(
    files: Sequence[Start],
    text: TextFormat,
    key: str,
    scratch: Path,
    features_of: Callable[[pa.Table], pa.Table],
) -> FeatureTable:
    def tables() -> Iterator[pa.Table]:
        for chunk in cut_files((start, text) for start in files):
            for table in chunk.read():
                yield features_of(table)

    return features.build(tables(), key, scratch, files[0].file)


def _film_features(films: pa.Table) -> pa.Table:
    genres = pc.if_else(
        pc.equal(films["genres"], "(no genres listed)"), pa.scalar(None, pa.string()),
        films["genres"],
    )  # fmt: skip
    found = pc.extract_regex(films["title"], r"\((?P<year>\d{4})\)\s*\"?$")
    year = pc.struct_field(found, "year").cast(pa.float32())
    return pa.table({"film_id": films["film_id"], "genres": genres, "year": year})


def _flagged_film_features(films: pa.Table) -> pa.Table:
    flags = np.stack([films[f].to_numpy() for f in _FLAGS], axis=1)
    genres = [
        "|".join(g for g, flag in zip(GENRES, row, strict=True) if flag and g) or None
        for row in flags.tolist()
    ]
    named = films.select(["film_id", "title"]).append_column(
        "genres", pa.array(genres, pa.string())
    )
    return _film_features(named)


ADAPTER = Adapter(name="movielens", documentation=__doc__ or "", recognise=recognise, open=open_log)
