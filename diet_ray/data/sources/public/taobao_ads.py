"""Taobao display ads: impressions of eight days with and without a click (Tianchi 56).

Files: raw_sample.csv, ad_feature.csv and user_profile.csv; all are joined. behavior_log.csv (22
days of behaviours by category and brand, without items) isn't read.

Label: clk. Split: by time; the last day (2017-05-13) is the test, as is usual. Days are those of
Beijing: cut in UTC, a third of each day would fall on the wrong side.
Features: user and ad ids, position (pid), category, campaign, customer, brand, price; the profile's
segment, group, gender, age, spending, depth, occupation and city level; hour, weekday.
History: the user's earlier clicked ads, their categories and brands. That is far less than the
behaviours that published figures use.
Traps: the log's column is `nonclk` and the ads' is `customer` where the documentation says
otherwise; the last name of user_profile.csv ends in a blank; its key is `userid`, the log's `user`;
a brand may be the text NULL; levels are often empty; some users have no profile. Rows that are
clicked and not clicked at once, timestamps outside the eight days, and exact duplicates are dropped
and counted.

Published, with histories from behavior_log.csv (BARS, TaobaoAd_x1, AUC): FM 0.6234, DeepFM 0.6364,
DNN 0.6467, DCN 0.6488, DCNv2 0.6495, DIN 0.6524, DIEN 0.6529; valid and test are one set there.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

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
    refuse_negatives,
)
from diet_ray.data.raw.start import Start
from diet_ray.data.sources.public.adapter import Adapter, Files, Role

ZONE = "Asia/Shanghai"
FIRST_S, END_S = 1_494_000_000, 1_494_691_200
"""2017-05-06 00:00 and 2017-05-14 00:00 in Beijing."""
AD_TYPES = {
    "cate_id": pa.int32(), "campaign_id": pa.int32(), "customer": pa.int32(), "brand": pa.int32(),
    "price": pa.float64(),
}  # fmt: skip
PROFILE = (
    "cms_segid", "cms_group_id", "final_gender_code", "age_level", "pvalue_level",
    "shopping_level", "occupation", "new_user_class_level",
)  # fmt: skip
_MISSING = ("", "NULL")


def recognise(start: Start) -> Role | None:
    names = set(start.header)
    if {"user", "time_stamp", "adgroup_id", "pid", "clk"} <= names:
        return Role(name="log")
    if {"adgroup_id", "cate_id", "campaign_id", "brand"} <= names:
        return Role(name="ads")
    if {"userid", "cms_segid"} <= names:
        return Role(name="users")
    if {"user", "time_stamp", "btag", "cate"} <= names:
        return Role(
            name="behaviours",
            unused="it names no items, only categories and brands; give raw_sample.csv",
        )
    return None


def open_log(files: Files, options: Options, scratch: Path) -> RawLog:
    choose_label(options, ("clk",), "taobao-ads")
    refuse_negatives(options, "taobao-ads")
    types = {
        "user": pa.int32(), "time_stamp": pa.int64(), "adgroup_id": pa.int32(),
        "pid": pa.dictionary(pa.int32(), pa.string()), "clk": pa.int8(),
    }  # fmt: skip
    logs = []
    for start in files["log"]:
        negated = {n: pa.int8() for n in ("nonclk", "noclk") if n in start.header}
        text = TextFormat(columns=start.header, types=types | negated, header=True)
        logs.append((start, text))
    ads = _table(files.get("ads", ()), "adgroup_id", AD_TYPES, scratch)
    profiles = dict.fromkeys(PROFILE, pa.int32())
    users = _table(files.get("users", ()), "userid", profiles, scratch)
    joined = [c for t in (ads, users) if t for c in t.columns]
    past = tuple(
        history(f"clicked_{c}", c, "user") for c in ("adgroup_id", "cate_id", "brand")
        if c == "adgroup_id" or c in joined
    )  # fmt: skip
    return RawLog(
        schema=prepared_schema(
            timezone=ZONE,
            fields=(
                *categorical("user", "adgroup_id", "pid", "hour", "weekday"),
                *categorical(*(c for c in joined if c != "price")),
                *numeric(*(c for c in joined if c == "price")),
                *past,
            ),
        ),
        parts=cut_files(logs),
        clean=_clean,
        finish=functools.partial(_finish, ads=ads, users=users),
        drop_duplicates=True,
        test_days=1,
        notes=tuple(
            f"no file of {name} features was found, so there are none"
            for name, table in (("ad", ads), ("user", users)) if table is None
        ),
    )  # fmt: skip


def _clean(raw: pa.Table) -> Cleaned:
    dropped: dict[str, int] = {}
    seconds = raw["time_stamp"].to_numpy()
    inside = (seconds >= FIRST_S) & (seconds < END_S)
    raw = keep(raw, inside, "rows outside 2017-05-06 to 2017-05-13", dropped)
    for name in ("nonclk", "noclk"):
        if name in raw.column_names:
            whole = pc.equal(pc.add(raw[name], raw["clk"]), 1).to_numpy()
            raw = keep(raw, whole, "rows both or neither clicked and not clicked", dropped)
    columns = {n: raw[n] for n in ("user", "adgroup_id", "pid")}
    times = pc.multiply(raw["time_stamp"], 1_000_000)
    return Cleaned(pa.table({TIME: times, LABEL: raw["clk"], **columns}), dropped)


def _finish(rows: pa.Table, ads: FeatureTable | None, users: FeatureTable | None) -> pa.Table:
    times = rows[TIME].to_numpy()
    columns = {name: rows[name] for name in rows.column_names}
    columns |= {"hour": pa.array(hours(times, ZONE)), "weekday": pa.array(weekdays(times, ZONE))}
    for table, key in ((ads, "adgroup_id"), (users, "user")):
        if table is not None:
            columns |= table.look_up(rows[key].combine_chunks())
    return pa.table(columns)


def _table(
    files: Sequence[Start], key: str, types: dict[str, pa.DataType], scratch: Path
) -> FeatureTable | None:
    if not files:
        return None

    def tables() -> Iterator[pa.Table]:
        for start in files:
            # The names as the file has them, without the blank that the last one ends in.
            known = {n: t for n, t in types.items() if n in start.header}
            text = TextFormat(
                columns=start.header, types={key: pa.int64(), **known}, header=True,
                missing=_MISSING,
            )  # fmt: skip
            for chunk in cut_files([(start, text)]):
                yield from chunk.read()

    return features.build(tables(), key, scratch, files[0].file)


ADAPTER = Adapter(
    name="taobao-ads", documentation=__doc__ or "", recognise=recognise, open=open_log
)
