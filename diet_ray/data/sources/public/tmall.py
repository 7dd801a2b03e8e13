"""Tmall: four different logs of purchases and what led to them, told apart by their headers.

- IJCAI-15 repeat buyers (Tianchi 42): user_log_format1.csv, 54,925,330 rows, joined with
  user_info_format1.csv. Its time is mmdd without a year, taken as 2014; some readers turn `0829`
  into 829, which is read alike. train_format1 and test_format1 label shoppers, not events, and
  aren't read; data_format2 holds the same events folded into text: give data_format1.
- IJCAI-16, also called Alipay (Tianchi 53): ijcai2016_taobao.csv, 44,528,127 rows, clicks and
  purchases, time yyyymmdd. The last name of its header differs, so it is read by position.
- Mobile, also called fresh (2015): tianchi_mobile_recommend_train_user.csv, time `YYYY-MM-DD HH`.
  Mostly empty geohashes aren't read. The item file only lists what a contest asked for.
- Rec-Tmall (Tianchi 140281): ..._rec_tmall_log_part*.txt, without a header, separated by \\x01; or
  the samples with commas and a header; joined with the product file, which is encoded in GB 18030.

Label: the logs hold only what people did. `click` (default) takes clicks as positives, `any` all
actions, and each needs an explicit number of drawn negatives (--negatives 1); `buy` needs none: a
purchase against any other action.
Split: by time; the last tenth of the rows is the test.
Features: user, item, category, and as far as the log has them seller, brand, age, gender, weekday
and hour. History: the user's earlier items and categories with label 1.
Traps: in two of the logs all events of a day have one instant (in the mobile log of an hour), so
none is in another's history, and equal rows are repeated clicks, not duplicates. brand may be
empty; age 0 and gender 2 mean unknown.

Published figures (UBR4CTR, ETA, MIRRN) are on one sample a user with half of the negatives random;
they aren't comparable with a split by time.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_ray.data.raw import features
from diet_ray.data.raw.chunks import cut_files
from diet_ray.data.raw.clock import hours, utc_us, weekdays
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
    codes_of,
    history,
    keep,
    negatives_for,
    prepared_schema,
)
from diet_ray.data.raw.start import Start
from diet_ray.data.sources.public.adapter import Adapter, Files, Role
from diet_ray.errors import DataError

ZONE = "Asia/Shanghai"
YEAR = 2014
"""Of the IJCAI-15 log, whose times have none: that of the contest."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    title: str
    columns: tuple[str, ...]
    """In the order of the file, by the names used here; `_` begins those that aren't read."""
    header: re.Pattern[str]
    """Of the first line, lower case, without blanks; in a file without a header that is a row."""
    click: str
    buy: str
    has_hours: bool = False
    times: str = "day"


VARIANTS = {
    "ijcai15": Variant(
        title="IJCAI-15",
        columns=(
            "user_id", "item_id", "category_id", "seller_id", "brand_id", "when", "action",
        ),
        header=re.compile("user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type"),
        click="0", buy="2", times="mmdd",
    ),
    "ijcai16": Variant(
        title="IJCAI-16",
        columns=("user_id", "seller_id", "item_id", "category_id", "action", "when"),
        header=re.compile(r"use_id,sel_id,ite_id,cat_id,act_id,\w+"),
        click="0", buy="1", times="yyyymmdd",
    ),
    "mobile": Variant(
        title="mobile",
        columns=("user_id", "item_id", "action", "_geohash", "category_id", "when"),
        header=re.compile("user_id,item_id,behavior_type,user_geohash,item_category,time"),
        click="1", buy="4", times="text", has_hours=True,
    ),
    "rec-tmall": Variant(
        title="Rec-Tmall",
        columns=("item_id", "user_id", "action", "when"),
        header=re.compile(r"item_id.user_id.action.vtime|\d+(.)\d+\1(click|collect|cart|alipay)\1.*"),
        click="click", buy="alipay", times="text", has_hours=True,
    ),
}  # fmt: skip
_PRODUCT = ("category", "brand_id", "seller_id")


def recognise(start: Start) -> Role | None:
    line = "".join(start.lines[:1]).lower().replace(" ", "")
    for name, variant in VARIANTS.items():
        if variant.header.fullmatch(line):
            return Role(name=f"log {name}")
    names = set(start.header) if len(start.header) > 1 else set(start.fields(0, "\x01"))
    if {"user_id", "age_range", "gender"} == names:
        return Role(name="users")
    if {"user_id", "age_range", "gender", "activity_log"} <= names:
        return Role(
            name="data_format2",
            unused="the same events as IJCAI-15's data_format1, folded into text: give "
            "user_log_format1.csv",
        )
    if {"user_id", "merchant_id"} <= names and names & {"label", "prob"}:
        return Role(
            name="shoppers", unused="it labels shoppers, not events; give user_log_format1.csv"
        )
    if {"item_id", "item_geohash", "item_category"} <= names:
        return Role(
            name="contest items",
            unused="it lists what a contest asked for; give the file of events, ..._train_user.csv",
        )
    if {"item_id", "category"} <= names:
        return Role(name="products")
    if {"item_id", "feedback"} <= names:
        return Role(name="reviews", unused="free text isn't a field; give the log")
    return None


def open_log(files: Files, options: Options, scratch: Path) -> RawLog:
    found = [name for name in VARIANTS if f"log {name}" in files]
    if len(found) > 1:
        raise DataError(
            f"tmall: there are events of {' and '.join(VARIANTS[f].title for f in found)}, which "
            "share no ids; give the files of one"
        )
    variant = VARIANTS[found[0]]
    label = choose_label(options, ("click", "any", "buy"), "tmall")
    joins: list[tuple[FeatureTable, str]] = []
    if found[0] == "ijcai15" and "users" in files:
        types = {"age_range": pa.string(), "gender": pa.string()}
        joins.append((_table(files["users"], "user_id", types, scratch, ","), "user_id"))
    if found[0] == "rec-tmall" and "products" in files:
        first = files["products"][0]
        delimiter = "," if len(first.header) > 1 else "\x01"
        names = [n for n in _PRODUCT if n in first.fields(0, delimiter)]
        types = dict.fromkeys(names, pa.string())
        joins.append((_table(files["products"], "item_id", types, scratch, delimiter), "item_id"))
    own = [c for c in variant.columns if c.endswith("_id") and c not in ("user_id", "item_id")]
    joined = [c for table, _ in joins for c in table.columns]
    negatives = negatives_for(
        options,
        "tmall",
        needed=label != "buy",
        item="item_id",
        attributes=tuple(own),
        other_label="buy",
    )
    past = [("past_items", "item_id")]
    past += [("past_categories", c) for c in ("category_id", "category") if c in (*own, *joined)]
    return RawLog(
        schema=prepared_schema(
            timezone=ZONE,
            fields=(
                *categorical("user_id"),
                *categorical("item_id", min_count=2),
                *categorical(*own, *joined, "weekday", *(["hour"] if variant.has_hours else [])),
                *(history(name, of, "user_id") for name, of in past),
            ),
        ),
        parts=cut_files((s, _format(s, variant)) for s in files[f"log {found[0]}"]),
        clean=functools.partial(_clean, variant=variant, label=label),
        finish=functools.partial(_finish, joins=tuple(joins)),
        negatives=negatives,
        notes=(f"the {variant.title} log",),
    )


def _format(start: Start, variant: Variant) -> TextFormat:
    types: dict[str, pa.DataType] = {
        c: pa.int32() for c in variant.columns if not c.startswith("_")
    }
    types["action"] = pa.dictionary(pa.int32(), pa.string())
    if variant.times == "text":
        types["when"] = pa.timestamp("s")
    delimiter = next((d for d in ("\x01", "\t") if d in start.lines[0]), ",")
    return TextFormat(
        columns=variant.columns,
        types=types,
        delimiter=delimiter,
        header=not start.lines[0][:1].isdigit(),
        missing=("", "NULL"),
    )


def _clean(raw: pa.Table, variant: Variant, label: str) -> Cleaned:
    dropped: dict[str, int] = {}
    times, valid = _times(raw["when"], variant)
    actions = codes_of(raw["action"], (variant.click, variant.buy))
    columns: dict[str, pa.Array] = {TIME: pa.array(times)}
    columns |= {c: raw[c] for c in raw.column_names if c.endswith("_id")}
    if label == "buy":
        columns[LABEL] = pa.array((actions == 1).view(np.int8))
    if label == "click":
        columns["_click"] = pa.array(actions == 0)
    rows = keep(pa.table(columns), valid, "rows without a date", dropped)
    if label == "click":
        is_click = rows["_click"].to_numpy()
        rows = keep(rows.drop_columns(["_click"]), is_click, "rows that aren't clicks", dropped)
    return Cleaned(rows, dropped)


def _times(when: pa.ChunkedArray, variant: Variant) -> tuple[np.ndarray, np.ndarray]:
    """µs since epoch, and which rows have a date."""
    if variant.times == "text":
        local = pc.fill_null(when.cast(pa.int64()), 0).to_numpy() * 1_000_000
        return utc_us(local, ZONE), pc.is_valid(when).to_numpy()
    numbers = pc.fill_null(when, 0).to_numpy()
    days, inverse = np.unique(numbers, return_inverse=True)
    dated: Callable[[int], int | None] = functools.partial(_midnight_us, variant=variant)
    times = [dated(int(d)) for d in days]
    valid = np.array([t is not None for t in times], bool)[inverse]
    return utc_us(np.array([t or 0 for t in times], np.int64)[inverse], ZONE), valid


def _midnight_us(day: int, variant: Variant) -> int | None:
    number = day + YEAR * 10_000 if variant.times == "mmdd" else day
    try:
        midnight = datetime.strptime(str(number), "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(midnight.timestamp()) * 1_000_000


def _finish(rows: pa.Table, joins: Sequence[tuple[FeatureTable, str]]) -> pa.Table:
    times = rows[TIME].to_numpy()
    columns = {name: rows[name] for name in rows.column_names}
    columns |= {"weekday": pa.array(weekdays(times, ZONE)), "hour": pa.array(hours(times, ZONE))}
    for table, key in joins:
        columns |= table.look_up(rows[key].combine_chunks())
    return pa.table(columns)


def _table(
    files: Sequence[Start], key: str, types: dict[str, pa.DataType], scratch: Path, delimiter: str
) -> FeatureTable:
    def tables() -> Iterator[pa.Table]:
        for start in files:
            text = TextFormat(
                columns=start.fields(0, delimiter), types={key: pa.int64(), **types},
                delimiter=delimiter, header=True, encoding=start.encoding, missing=("", "NULL"),
            )  # fmt: skip
            for chunk in cut_files([(start, text)]):
                for table in chunk.read():
                    yield _without_codes_for_unknown(table)

    return features.build(tables(), key, scratch, files[0].file)


def _without_codes_for_unknown(table: pa.Table) -> pa.Table:
    for name, unknown in (("age_range", "0"), ("gender", "2")):
        if name in table.column_names:
            index = table.column_names.index(name)
            column = table[name]
            known = pc.if_else(pc.equal(column, unknown), pa.scalar(None, pa.string()), column)
            table = table.set_column(index, name, known)
    return table


ADAPTER = Adapter(name="tmall", documentation=__doc__ or "", recognise=recognise, open=open_log)
