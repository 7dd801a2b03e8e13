"""Avazu: ten days of mobile ads (Kaggle 2014).

Files: train (CSV, plain or gzip, with a header); 40,428,967 rows. Kaggle's test has no `click` and
isn't read.

Label: click. Split: by time; the last day (2014-10-30) is the test. Published figures are on random
splits, which let a model know the hour it is asked about, and aren't comparable.
Features: all columns but `id`, which is one a row; hour, weekday and is_weekend from `hour`; values
from 2 occurrences on, as in Avazu_x4_001. History: none; device_id is no user (most rows share
one).
Traps: `hour` is YYMMDDHH in UTC, so an hour's rows are of one instant and keep the file's order;
C14 to C21 and C1 are codes, not amounts.

Published (BARS, random splits, AUC / log loss): Avazu_x4_001: LR 0.7775 / 0.3815, FM 0.7887 /
0.3754, DeepFM 0.7930 / 0.3719, DCNv2 0.7931 / 0.3719, MaskNet 0.7944 / 0.3712. Avazu_x1: LR 0.7516
/ 0.3735, DeepFM 0.7648 / 0.3667, DCNv2 0.7656 / 0.3664, FinalNet 0.7672 / 0.3653.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

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
    keep,
    prepared_schema,
    present,
    refuse_negatives,
)
from diet_ray.data.raw.start import Start
from diet_ray.data.sources.public.adapter import Adapter, Files, Role

CODES = ("C1", "banner_pos", "device_type", "device_conn_type", *(f"C{i}" for i in range(14, 22)))
HASHES = (
    "site_id", "site_domain", "site_category", "app_id", "app_domain", "app_category", "device_id",
    "device_ip", "device_model",
)  # fmt: skip


def recognise(start: Start) -> Role | None:
    names = set(start.header)
    if not {"hour", "banner_pos", "site_id", "device_ip"} <= names:
        return None
    if "click" in names:
        return Role(name="log")
    return Role(name="unlabelled", unused="Kaggle's test file has no labels; give train")


def open_log(files: Files, options: Options, scratch: Path) -> RawLog:
    choose_label(options, ("click",), "avazu")
    refuse_negatives(options, "avazu")
    types = {
        "click": pa.int8(),
        "hour": pa.int32(),
        **dict.fromkeys(CODES, pa.int32()),
        **dict.fromkeys(HASHES, pa.dictionary(pa.int32(), pa.string())),
        # Of so many values, dictionaries would cost more than they save.
        **dict.fromkeys(("device_id", "device_ip"), pa.string()),
    }
    logs = [(s, TextFormat(columns=s.header, types=types, header=True)) for s in files["log"]]
    return RawLog(
        schema=prepared_schema(
            fields=categorical(
                "hour", "weekday", "is_weekend", *CODES, *HASHES, min_count=2
            ),
        ),
        parts=cut_files(logs),
        clean=_clean,
        finish=_finish,
        test_days=1,
    )  # fmt: skip


def _clean(raw: pa.Table) -> Cleaned:
    dropped: dict[str, int] = {}
    raw = keep(raw, present(raw["hour"]), "rows without a time", dropped)
    hour = raw["hour"].to_numpy()
    values, inverse = np.unique(hour, return_inverse=True)
    times = [_microseconds(int(v)) for v in values]
    valid = np.array([t is not None for t in times], bool)[inverse]
    microseconds = np.array([t or 0 for t in times], np.int64)[inverse]
    raw = raw.drop_columns(["hour"]).append_column(TIME, pa.array(microseconds))
    return Cleaned(
        keep(
            raw.rename_columns({"click": LABEL}), valid, "rows whose hour is no YYMMDDHH", dropped
        ),
        dropped,
    )


def _finish(rows: pa.Table) -> pa.Table:
    times = rows[TIME].to_numpy()
    weekday = weekdays(times, "UTC")
    return (
        rows.append_column("hour", pa.array(hours(times, "UTC")))
        .append_column("weekday", pa.array(weekday))
        .append_column("is_weekend", pa.array((weekday >= 5).astype(np.int8)))
    )


def _microseconds(hour: int) -> int | None:
    try:
        moment = datetime.strptime(f"{hour:08d}", "%y%m%d%H").replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(moment.timestamp()) * 1_000_000


ADAPTER = Adapter(name="avazu", documentation=__doc__ or "", recognise=recognise, open=open_log)
