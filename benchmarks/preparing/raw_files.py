"""Synthetic files in the raw format of KuaiRand-27K and of UserBehavior, of any length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

BLOCK_ROWS = 500_000
NUM_USERS = 27_285
ROWS_PER_VIDEO = 10
"""As in KuaiRand-27K."""
LOG_START_MS, LOG_DAYS = 1_649_347_200_000, 31
"""2022-04-08 00:00 in Beijing."""
BEHAVIOR_START_S, BEHAVIOR_DAYS = 1_511_539_200, 9

_REACTIONS = ("is_like", "is_follow", "is_comment", "is_forward", "is_hate")
_RANGES = ("0", "(0,10]", "(10,50]", "(50,100]", "500+")


def write_kuairand(folder: Path, num_rows: int, seed: int = 0) -> None:
    """The log in two parts, grouped by user as it is published, and both feature files."""
    rng = np.random.default_rng(seed)
    num_videos = max(100, num_rows // ROWS_PER_VIDEO)
    half = num_rows // 2
    for part, (first, last) in enumerate(((0, half), (half, num_rows)), start=1):
        blocks = (
            _kuairand_log(rng, begin, min(begin + BLOCK_ROWS, last), num_rows, num_videos)
            for begin in range(first, last, BLOCK_ROWS)
        )
        _write(folder / f"log_standard_4_08_to_5_08_27k_part{part}.csv", blocks)
    _write(folder / "user_features_27k.csv", [_users(rng)])
    blocks = (
        _videos(rng, begin, min(begin + BLOCK_ROWS, num_videos))
        for begin in range(0, num_videos, BLOCK_ROWS)
    )
    _write(folder / "video_features_basic_27k.csv", blocks)


def write_behavior(path: Path, num_rows: int, seed: int = 0) -> None:
    """Grouped by user, with some times far outside the nine days, and some rows twice."""
    rng = np.random.default_rng(seed)
    num_users, num_items = max(10, num_rows // 101), max(50, num_rows // 24)

    def block(begin: int, end: int) -> pa.Table:
        n = end - begin
        item = _popular(rng, n, num_items)
        time = BEHAVIOR_START_S + rng.integers(0, BEHAVIOR_DAYS * 86_400, n)
        time[rng.random(n) < 5e-4] = -2_134_949_234
        action = rng.choice(4, n, p=[0.896, 0.02, 0.055, 0.029])
        table = pa.table(
            {
                "user": np.arange(begin, end) * num_users // num_rows,
                "item": item,
                "category": item * 7919 % 9_439,
                "action": pa.array(["pv", "buy", "cart", "fav"]).take(pa.array(action)),
                "time": time,
            }
        )
        twice = np.sort(np.append(np.arange(n), rng.integers(0, n, n // 100_000)))[:n]
        return table.take(pa.array(twice))

    blocks = (
        block(begin, min(begin + BLOCK_ROWS, num_rows)) for begin in range(0, num_rows, BLOCK_ROWS)
    )
    _write(path, blocks, header=False)


def _kuairand_log(
    rng: np.random.Generator, begin: int, end: int, num_rows: int, num_videos: int
) -> pa.Table:
    n = end - begin
    time_ms = LOG_START_MS + rng.integers(0, LOG_DAYS * 86_400_000, n)
    local = time_ms // 1000 + 8 * 3600
    duration = rng.integers(3_000, 300_000, n)
    watched = (duration * rng.random(n) * 1.3).astype(np.int64)
    rare = {name: (rng.random(n) < 0.01).astype(np.int8) for name in _REACTIONS}
    date = (local // 86_400).astype("datetime64[D]")
    months = date.astype("datetime64[M]")
    day = (date - months).astype(np.int64) + 1
    return pa.table(
        {
            "user_id": np.arange(begin, end) * NUM_USERS // num_rows,
            "video_id": _popular(rng, n, num_videos),
            "date": 20_220_000 + (months.astype(np.int64) % 12 + 1) * 100 + day,
            "hourmin": local // 3600 % 24 * 100,
            "time_ms": time_ms,
            "is_click": (rng.random(n) < 0.4).astype(np.int8),
            **rare,
            "long_view": (watched >= np.minimum(duration, 18_000)).astype(np.int8),
            "play_time_ms": watched,
            "duration_ms": duration,
            "profile_stay_time": np.zeros(n, np.int8),
            "comment_stay_time": np.zeros(n, np.int8),
            "is_profile_enter": np.zeros(n, np.int8),
            "is_rand": np.zeros(n, np.int8),
            "tab": rng.integers(0, 15, n),
        }
    )


def _users(rng: np.random.Generator) -> pa.Table:
    n = NUM_USERS
    columns: dict[str, pa.Array | np.ndarray] = {
        "user_id": np.arange(n),
        "user_active_degree": _names(rng, n, ("full_active", "high_active", "UNKNOWN")),
        "is_lowactive_period": np.zeros(n, np.int8),
        "is_live_streamer": rng.choice([0, 1, -124], n),
        "is_video_author": rng.integers(0, 2, n),
    }
    for name in ("follow_user_num", "fans_user_num", "friend_user_num", "register_days"):
        columns[name] = rng.integers(0, 900, n)
        columns[f"{name}_range"] = _names(rng, n, _RANGES)
    columns |= {f"onehot_feat{i}": rng.integers(0, 2 + 10 * i, n) for i in range(18)}
    return pa.table(columns)


def _videos(rng: np.random.Generator, begin: int, end: int) -> pa.Table:
    n = end - begin
    uploaded = np.datetime64("2022-05-01") - rng.integers(0, 340, n)
    tags = [f"{a},{b}" if b % 2 else str(a) for a in range(60) for b in range(20)] + [""]
    return pa.table(
        {
            "video_id": np.arange(begin, end),
            "author_id": rng.integers(0, 9_000_000, n),
            "video_type": _names(rng, n, ("NORMAL", "AD")),
            "upload_dt": pa.array(uploaded),
            "upload_type": _names(rng, n, ("LongImport", "Kmovie", "ShortImport")),
            "visible_status": rng.integers(0, 3, n),
            "video_duration": rng.integers(3_000, 300_000, n),
            "server_width": np.full(n, 720),
            "server_height": np.full(n, 1280),
            "music_id": rng.integers(1_000_000_000, 9_000_000_000, n),
            "music_type": _names(rng, n, ("9.0", "4.0", "")),
            "tag": _names(rng, n, tuple(tags)),
        }
    )


def _popular(rng: np.random.Generator, n: int, num_items: int) -> np.ndarray:
    """Items (n,), the low numbers far more often than the high ones."""
    return (num_items * rng.random(n) ** 3).astype(np.int64)


def _names(rng: np.random.Generator, n: int, names: tuple[str, ...]) -> pa.Array:
    return pa.array(names).take(pa.array(rng.integers(0, len(names), n)))


def _holds_comma(block: pa.Table) -> bool:
    texts = [c for c in block.columns if pa.types.is_string(c.type)]
    return any(pc.any(pc.match_substring(c, ",")).as_py() for c in texts)


def _write(path: Path, blocks: object, header: bool = True) -> None:
    writer = None
    for block in blocks:  # type: ignore[attr-defined]
        if writer is None:
            # "needed" would quote all text; as published, only what holds a comma is.
            style = "needed" if header and _holds_comma(block) else "none"
            options = pa_csv.WriteOptions(include_header=False, quoting_style=style)
            file = path.open("wb")
            if header:
                file.write((",".join(block.column_names) + "\n").encode())
            writer = pa_csv.CSVWriter(file, block.schema, write_options=options)
        writer.write_table(block)
    if writer is not None:
        writer.close()
        file.close()
