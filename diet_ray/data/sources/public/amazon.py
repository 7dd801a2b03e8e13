"""Amazon reviews: editions of 2014, 2018 and 2023 (McAuley et al.), as JSON lines or ratings only.

Files: reviews_*.json(.gz) or *.json(.gz) (keys reviewerID, asin, overall, unixReviewTime), *.jsonl
of 2023 (user_id, parent_asin, rating, timestamp in ms), ratings_*.csv and *.csv without a header,
and the 2023 benchmark files with the header user_id,parent_asin,rating,timestamp. Text and metadata
aren't read.

Label: `liked` (default): four stars or more against fewer; `five-stars`; or `review`: every review
is a positive, which needs an explicit number of drawn negatives (--negatives 1), as in DIN's setup.
Split: by time; the last tenth of the rows is the test. Stages are cut by rows: the log spans years.
Features: user, item, weekday. History: the user's earlier items with label 1.
Traps: ratings without a header are user,item in 2014 and item,user in 2018, told by how the ids
look; times are seconds until 2018 and ms in 2023; before 2023 they are whole days, and the reviews
of a day don't see each other; the column `history` of the 2023 benchmark files isn't read, since
histories are built here; the same review may stand in two files and is counted once.

Published (BARS, AmazonElectronics_x1, 2014 reviews with a random negative each, last item of a user
as test, AUC): FM 0.8485, DNN 0.8815, DeepFM 0.8816, DCNv2 0.8812, DIN 0.8860, DIEN 0.8888. With
--label review --negatives 1 the task is alike; the split by time isn't.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from diet_ray.data.raw.chunks import cut_files
from diet_ray.data.raw.clock import weekdays
from diet_ray.data.raw.formats import Format, JsonLines, TextFormat
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
    negatives_for,
    prepared_schema,
)
from diet_ray.data.raw.start import Start
from diet_ray.data.sources.public.adapter import Adapter, Files, Role

ZONE = "UTC"
STARS = {"liked": 4.0, "five-stars": 5.0}
_KEYS_2018 = {"user": "reviewerID", "item": "asin", "rating": "overall", "when": "unixReviewTime"}
_KEYS_2023 = {"user": "user_id", "item": "parent_asin", "rating": "rating", "when": "timestamp"}
_ITEM = re.compile(r"[0-9B][0-9A-Z]{9}")
_RATING = re.compile(r"[0-5](\.\d)?")
_MS_FROM = 100_000_000_000
"""A time from here on is in ms: in seconds it would lie after the year 5000."""


def recognise(start: Start) -> Role | None:
    if not start.lines:
        return None
    keys = _json_keys(start)
    if keys is not None:
        if any(set(k.values()) <= keys for k in (_KEYS_2018, _KEYS_2023)):
            return Role(name="log")
        if keys & {"asin", "parent_asin"}:
            return Role(name="metadata", unused="metadata isn't read; give the reviews")
        return None
    if set(_KEYS_2023.values()) <= set(start.header):
        return Role(name="log")
    return Role(name="log") if _bare_columns(start) else None


def open_log(files: Files, options: Options, scratch: Path) -> RawLog:
    label = choose_label(options, (*STARS, "review"), "amazon")
    negatives = negatives_for(
        options, "amazon", needed=label == "review", item="item", other_label="liked"
    )
    return RawLog(
        schema=prepared_schema(
            timezone=ZONE,
            fields=(
                *categorical("user"),
                *categorical("item", min_count=2),
                *categorical("weekday"),
                history("reviewed", "item", "user"),
            ),
        ),
        parts=cut_files((s, _format(s)) for s in files["log"]),
        clean=functools.partial(_clean, stars=STARS.get(label)),
        finish=_finish,
        drop_duplicates=True,
        negatives=negatives,
        stages="rows",
    )


def _json_keys(start: Start) -> set[str] | None:
    try:
        first = json.loads(start.lines[0])
    except ValueError:
        return None
    return set(first) if isinstance(first, dict) else None


def _bare_columns(start: Start) -> tuple[str, ...] | None:
    """Of ratings without a header: items are ten digits or letters, users mostly longer."""
    rows = [start.fields(i) for i in range(min(100, len(start.lines)))]
    if not all(
        len(r) == 4 and _RATING.fullmatch(r[2]) and r[3].isdigit() and len(r[3]) >= 8 for r in rows
    ):
        return None
    looks = [sum(bool(_ITEM.fullmatch(r[i])) for r in rows) for i in (0, 1)]
    if max(looks) < len(rows):
        return None
    return ("item", "user", "rating", "when") if looks[0] > looks[1] else (
        "user", "item", "rating", "when"
    )  # fmt: skip


def _format(start: Start) -> Format:
    names = {"user": pa.string(), "item": pa.string(), "rating": pa.float32(), "when": pa.int64()}
    keys = _json_keys(start)
    if keys is not None:
        known = _KEYS_2018 if set(_KEYS_2018.values()) <= keys else _KEYS_2023
        return JsonLines(types={known[n]: t for n, t in names.items()})
    bare = _bare_columns(start)
    if bare is not None:
        return TextFormat(columns=bare, types=names)
    back = {v: k for k, v in _KEYS_2023.items()}
    columns = tuple(back.get(n, f"_{n}") for n in start.header)
    return TextFormat(columns=columns, types=names, header=True, quoted=True)


def _clean(raw: pa.Table, stars: float | None) -> Cleaned:
    dropped: dict[str, int] = {}
    for keys in (_KEYS_2018, _KEYS_2023):
        back = {v: k for k, v in keys.items()}
        if set(raw.column_names) == set(back):
            raw = raw.rename_columns([back[n] for n in raw.column_names])
    whole = functools.reduce(pc.and_, (pc.is_valid(raw[n]) for n in ("user", "item", "when")))
    raw = keep(raw, whole.to_numpy(), "rows without user, item or time", dropped)
    times = pc.if_else(
        pc.less(raw["when"], _MS_FROM),
        pc.multiply(raw["when"], 1_000_000),
        pc.multiply(raw["when"], 1000),
    )
    columns = {TIME: times, "user": raw["user"], "item": raw["item"]}
    if stars is not None:
        columns[LABEL] = pc.fill_null(pc.greater_equal(raw["rating"], stars), False).cast(pa.int8())
    return Cleaned(pa.table(columns), dropped)


def _finish(rows: pa.Table) -> pa.Table:
    return rows.append_column("weekday", pa.array(weekdays(rows[TIME].to_numpy(), ZONE)))


ADAPTER = Adapter(name="amazon", documentation=__doc__ or "", recognise=recognise, open=open_log)
