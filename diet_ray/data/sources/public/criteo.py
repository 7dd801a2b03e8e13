"""Criteo: seven days of display ads, 13 counts and 26 hashed categories (Kaggle 2014).

Files: train.txt, tab-separated, without a header: label, I1..I13, C1..C26; 45,840,617 rows. Or the
comma-separated re-packings of BARS (x1 and x4: train, valid and test.csv) with a header, whose
first name is `Label` or `label`. Kaggle's test.txt has no labels and isn't read.

Label: the first column. Split: the last tenth of the rows. The raw file is in time order but has no
timestamp, so rows keep the file's order and the number of the row stands for time; stages are cut
by rows. The re-packings were split at random: their order is train, valid, test, so that the tail
is the published test set, and stages mean nothing.
Features: I1..I13 as numbers (signed logarithm, missing as the mean), C1..C26 from 10 occurrences
on, as in Criteo_x4_001. History: none, there is no user.
Traps: I may be empty or negative; C may be empty.

Published (BARS, AUC / log loss): Criteo_x4_001: LR 0.7934 / 0.4568, FM 0.8086 / 0.4431, DeepFM
0.8143 / 0.4376, DCNv2 0.8145 / 0.4376, FinalMLP 0.8146 / 0.4374. Criteo_x1: LR 0.7886 / 0.4609,
DeepFM 0.8137 / 0.4381, DCNv2 0.8142 / 0.4378, FinalNet 0.8154 / 0.4365.
"""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa

from diet_ray.data.raw.chunks import cut_files
from diet_ray.data.raw.formats import TextFormat
from diet_ray.data.raw.log import (
    LABEL,
    Cleaned,
    Options,
    RawLog,
    categorical,
    choose_label,
    numeric,
    prepared_schema,
    refuse_negatives,
)
from diet_ray.data.raw.start import Start
from diet_ray.data.sources.public.adapter import Adapter, Files, Role

NUMBERS = tuple(f"I{i}" for i in range(1, 14))
CATEGORIES = tuple(f"C{i}" for i in range(1, 27))
_HEX = re.compile(r"[0-9a-f]{8}|")
_TYPES = {
    LABEL: pa.int8(),
    **dict.fromkeys(NUMBERS, pa.float32()),
    **dict.fromkeys(CATEGORIES, pa.string()),
}
_REPACKED = ("train", "valid", "test")


def recognise(start: Start) -> Role | None:
    if tuple(n.lower() for n in start.header) == tuple(n.lower() for n in _TYPES):
        return Role(name="log")
    rows = [start.fields(i, "\t") for i in range(min(20, len(start.lines)))]
    if rows and all(_is_row(r) for r in rows):
        return Role(name="log")
    if rows and all(_is_row(("0", *r)) for r in rows):
        return Role(name="unlabelled", unused="Kaggle's test file has no labels; give train.txt")
    return None


def open_log(files: Files, options: Options, scratch: Path) -> RawLog:
    choose_label(options, (LABEL,), "criteo")
    refuse_negatives(options, "criteo")
    with_header = [s for s in files["log"] if len(s.header) == len(_TYPES)]
    notes: tuple[str, ...] = ()
    if with_header:
        notes = ("a re-packing that was split at random: its stages aren't in time order",)
    logs = []
    for start in sorted(files["log"], key=_order):
        header = start in with_header
        text = TextFormat(
            columns=tuple(_TYPES), types=_TYPES, delimiter="," if header else "\t", header=header
        )
        logs.append((start, text))
    return RawLog(
        schema=prepared_schema(
            fields=(*numeric(*NUMBERS), *categorical(*CATEGORIES, min_count=10)),
        ),
        parts=cut_files(logs),
        clean=_clean,
        finish=_finish,
        has_time=False,
        stages="rows",
        notes=notes,
    )


def _is_row(values: tuple[str, ...]) -> bool:
    return (
        len(values) == len(_TYPES)
        and values[0] in ("0", "1")
        and all(re.fullmatch(r"-?\d*", v) for v in values[1:14])
        and all(_HEX.fullmatch(v) for v in values[14:])
    )


def _order(start: Start) -> int:
    name = start.file.rsplit("/", 1)[-1].lower()
    return next((i for i, part in enumerate(_REPACKED) if part in name), 0)


def _clean(raw: pa.Table) -> Cleaned:
    return Cleaned(raw, {})


def _finish(rows: pa.Table) -> pa.Table:
    return rows


ADAPTER = Adapter(name="criteo", documentation=__doc__ or "", recognise=recognise, open=open_log)
