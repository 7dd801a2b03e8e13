"""Taobao UserBehavior: clicks, carts, favourites and purchases of nine days (Tianchi 649).

Files: UserBehavior.csv, comma-separated, without a header: user, item, category, behaviour (pv,
buy, cart or fav), seconds since epoch; 100,150,807 rows.

Label: the log holds only what people did. `click` (default) takes the pv rows as positives, `any`
all rows, and each needs an explicit number of drawn negatives (--negatives 1); `buy` needs none: a
purchase against any other action.
Split: by time; the last day (2017-12-03) is the test. Days are those of Beijing.
Features: user, item, category, hour, weekday.
History: the user's earlier items and categories with label 1, strictly before the event.
Traps: 49 exact duplicate rows, and timestamps from 1902 to 2037: duplicates and what lies outside
2017-11-25 to 2017-12-03 (+08:00) are dropped and counted. About 1,406 items have more than one
category: a row keeps its own, a drawn item has the category of its first event. Rows come grouped
by user and are sorted by time here.

Published figures (MIMN, SIM, ETA and their kin) are on one sample a user with half of the negatives
random, users in place of time held out; they aren't comparable with a split by time.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_ray.data.raw.chunks import cut_files
from diet_ray.data.raw.clock import hours, weekdays
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

ZONE = "Asia/Shanghai"
FIRST_S, END_S = 1_511_539_200, 1_512_316_800
"""2017-11-25 00:00 and 2017-12-04 00:00 in Beijing."""
ACTIONS = ("pv", "buy", "cart", "fav")
_LINE = re.compile(r"\d+,\d+,\d+,(pv|buy|cart|fav),-?\d+")
_TYPES = {
    "user_id": pa.int32(), "item_id": pa.int32(), "category_id": pa.int32(),
    "behavior_type": pa.dictionary(pa.int32(), pa.string()), "timestamp": pa.int64(),
}  # fmt: skip


def recognise(start: Start) -> Role | None:
    lines = start.lines[:20]
    return Role(name="log") if lines and all(_LINE.fullmatch(line) for line in lines) else None


def open_log(files: Files, options: Options, scratch: Path) -> RawLog:
    label = choose_label(options, ("click", "any", "buy"), "taobao-behavior")
    negatives = negatives_for(
        options,
        "taobao-behavior",
        needed=label != "buy",
        item="item_id",
        attributes=("category_id",),
        other_label="buy",
    )
    text = TextFormat(columns=tuple(_TYPES), types=_TYPES)
    return RawLog(
        schema=prepared_schema(
            timezone=ZONE,
            fields=(
                *categorical("user_id"),
                *categorical("item_id", min_count=2),
                *categorical("category_id", "hour", "weekday"),
                history("past_items", "item_id", "user_id"),
                history("past_categories", "category_id", "user_id"),
            ),
        ),
        parts=cut_files((s, text) for s in files["log"]),
        clean=functools.partial(_clean, label=label),
        finish=_finish,
        drop_duplicates=True,
        negatives=negatives,
        test_days=1,
    )


def _clean(raw: pa.Table, label: str) -> Cleaned:
    dropped: dict[str, int] = {}
    raw = raw.combine_chunks()
    seconds = raw["timestamp"].to_numpy()
    raw = keep(
        raw,
        (seconds >= FIRST_S) & (seconds < END_S),
        "rows outside 2017-11-25 to 2017-12-03",
        dropped,
    )
    actions = codes_of(raw["behavior_type"], ACTIONS)
    columns = {TIME: pc.multiply(raw["timestamp"], 1_000_000)}
    columns |= {n: raw[n] for n in ("user_id", "item_id", "category_id")}
    # Kept until duplicates are known: one item clicked and bought in a second is two events.
    rows = pa.table(columns | {"action": pa.array(actions)})
    if label == "click":
        rows = keep(rows, actions == ACTIONS.index("pv"), "rows that aren't clicks", dropped)
    if label == "buy":
        rows = rows.append_column(LABEL, pa.array((actions == ACTIONS.index("buy")).view(np.int8)))
    return Cleaned(rows, dropped)


def _finish(rows: pa.Table) -> pa.Table:
    times = rows[TIME].to_numpy()
    return rows.append_column("hour", pa.array(hours(times, ZONE))).append_column(
        "weekday", pa.array(weekdays(times, ZONE))
    )


ADAPTER = Adapter(
    name="taobao-behavior", documentation=__doc__ or "", recognise=recognise, open=open_log
)
