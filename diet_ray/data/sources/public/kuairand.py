"""KuaiRand: impressions of short videos, editions Pure, 1K and 27K (Gao et al., CIKM 2022).

Files: log_standard_*.csv (27K: also in _part files), user_features_*.csv and
video_features_basic_*.csv; all are joined. Of the later supplement the categories are joined by
`final_video_id`; captions aren't read. video_features_statistic_*.csv is never read: its averages
over the whole month, test days included, would tell the future.

Label: is_click; also long_view, is_like, is_follow, is_comment, is_forward, is_hate and
is_profile_enter (--label). Reactions and watch time belong to the outcome, so none is a feature.
Rows with is_rand = 1 (random exposure, log_random_*.csv) are another experiment and are left out.
Split: by time; the last three days (2022-05-06 to 08) are the test. Days are those of Beijing, as
in `date`; `hourmin` is the hour there times 100.
Features: those of LongCTR's configuration (video, author, music, type, tags, hour, weekday, age of
the video, tab; of the user all flags and ranges), and user_id, which the history needs.
History: the user's earlier videos with label 1, strictly before the impression.
Traps: ranges such as "(0,10]" hold a comma; -124 and UNKNOWN mean missing; ids are numbered anew in
each edition; video_duration, music_type and tag may be empty; log_random_* has the header of the
others and is told by its values.

Published, on KuaiRand-1K with is_click: DIN 0.7022 / 0.7146 / 0.7303 test AUC with histories of 10
/ 50 / 500 (LongCTR, DIN_kuairand_1k_x1, whose split rule isn't published); HSTU 0.7275 for is_click
and 0.739 for long_view (NVIDIA/recsys-examples, PR 34, per-user sequences). For Pure and 27K there
is no table of several models to compare with.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_ray.data.raw import features
from diet_ray.data.raw.chunks import cut_files
from diet_ray.data.raw.clock import DAY_US, local_us, weekdays
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

ZONE = "Asia/Shanghai"
LABELS = (
    "is_click", "long_view", "is_like", "is_follow", "is_comment", "is_forward", "is_hate",
    "is_profile_enter",
)  # fmt: skip
USER_COLUMNS = (
    "user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author",
    "follow_user_num_range", "fans_user_num_range", "friend_user_num_range", "register_days_range",
    *(f"onehot_feat{i}" for i in range(18)),
)  # fmt: skip
VIDEO_COLUMNS = ("author_id", "video_type", "upload_type", "music_id", "music_type", "tag")
_IDS = {"author_id": pa.int64(), "music_id": pa.int64(), "upload_dt": pa.date32()}
_MISSING = ("", "-124", "UNKNOWN")


def recognise(start: Start) -> Role | None:
    names = set(start.header)
    if {"user_id", "video_id", "time_ms", "is_click", "is_rand", "tab"} <= names:
        return Role(name="log")
    if {"user_id", "user_active_degree"} <= names:
        return Role(name="users")
    if {"video_id", "author_id", "upload_dt"} <= names:
        return Role(name="videos")
    if {"video_id", "show_cnt"} <= names:
        return Role(
            name="statistics", unused="averages over the whole month would leak the test days"
        )
    if "final_video_id" in names:
        if any(n.endswith("category_id") for n in names):
            return Role(name="categories")
        return Role(name="captions", unused="free text isn't a field")
    return None


def open_log(files: Files, options: Options, scratch: Path) -> RawLog:
    label = choose_label(options, LABELS, "kuairand")
    refuse_negatives(options, "kuairand")
    types = {
        "user_id": pa.int32(), "video_id": pa.int32(), "hourmin": pa.int16(),
        "time_ms": pa.int64(), label: pa.int8(), "duration_ms": pa.int32(), "is_rand": pa.int8(),
        "tab": pa.int8(),
    }  # fmt: skip
    logs = [(s, TextFormat(columns=s.header, types=types, header=True)) for s in files["log"]]
    users = _table(files.get("users", ()), "user_id", USER_COLUMNS, scratch)
    videos = _table(files.get("videos", ()), "video_id", (*VIDEO_COLUMNS, "upload_dt"), scratch)
    categories = _table(files.get("categories", ()), "final_video_id", None, scratch)
    joined = [c for t in (users, videos, categories) if t for c in t.columns]
    plain = [c for c in joined if c not in ("upload_dt", "tag", "author_id", "music_id")]
    fields = (
        *categorical("user_id"),
        *categorical(
            "video_id", *(c for c in ("author_id", "music_id") if c in joined), min_count=2
        ),
        *categorical("tab", "hourmin", "weekday", *plain),
        *numeric("duration_ms", *(["video_age_days"] if "upload_dt" in joined else [])),
        *((Field(name="tag", kind="sequence", separator=",", max_length=3),)
          if "tag" in joined else ()),
        history("watched", "video_id", "user_id"),
    )  # fmt: skip
    missing = [n for n, t in (("user", users), ("video", videos)) if t is None]
    return RawLog(
        schema=prepared_schema(
            timezone=ZONE,
            fields=fields,
        ),
        parts=cut_files(logs),
        clean=functools.partial(_clean, label=label),
        finish=functools.partial(_finish, users=users, videos=videos, categories=categories),
        test_days=3,
        notes=tuple(f"no file of {n} features was found, so there are none" for n in missing),
    )


def _clean(raw: pa.Table, label: str) -> Cleaned:
    dropped: dict[str, int] = {}
    raw = keep(raw, raw["is_rand"].to_numpy() == 0, "rows of random exposure", dropped)
    raw = keep(raw, present(raw["time_ms"]), "rows without a time", dropped)
    times = pc.multiply(raw["time_ms"], 1000)
    names = ["user_id", "video_id", "hourmin", "tab", "duration_ms"]
    return Cleaned(
        pa.table({TIME: times, LABEL: raw[label], **{n: raw[n] for n in names}}), dropped
    )


def _finish(
    rows: pa.Table,
    users: FeatureTable | None,
    videos: FeatureTable | None,
    categories: FeatureTable | None,
) -> pa.Table:
    columns = {name: rows[name] for name in rows.column_names}
    times = rows[TIME].to_numpy()
    columns["weekday"] = pa.array(weekdays(times, ZONE))
    for table, key in ((users, "user_id"), (videos, "video_id"), (categories, "video_id")):
        if table is not None:
            columns |= table.look_up(rows[key].combine_chunks())
    if "upload_dt" in columns:
        uploaded = columns.pop("upload_dt")
        days = pa.array((local_us(times, ZONE) // DAY_US).astype(np.int32))
        # A date after the impression is a mistake, not knowledge.
        columns["video_age_days"] = pc.max_element_wise(
            pc.subtract(days, uploaded), 0, skip_nulls=False
        )
    return pa.table(columns)


def _table(
    files: Sequence[Start], key: str, wanted: tuple[str, ...] | None, scratch: Path
) -> FeatureTable | None:
    """wanted: the feature columns; None: every `*category_id`."""
    if not files:
        return None

    def tables() -> Iterator[pa.Table]:
        for start in files:
            names = [
                n for n in start.header
                if n != key and (n in wanted if wanted else n.endswith("category_id"))
            ]  # fmt: skip
            types = {key: pa.int64(), **{n: _IDS.get(n, pa.string()) for n in names}}
            text = TextFormat(
                columns=start.header, types=types, header=True, quoted=True, missing=_MISSING
            )
            for chunk in cut_files([(start, text)]):
                yield from chunk.read()

    return features.build(tables(), key, scratch, files[0].file)


ADAPTER = Adapter(name="kuairand", documentation=__doc__ or "", recognise=recognise, open=open_log)
