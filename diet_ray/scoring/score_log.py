"""Scores for every row of a log, on a pool of actors, as Parquet.

    OUT/score.json      what the scores are of: log, checkpoints, settings
    OUT/scores/         a file a shard, see `diet_ray.scoring.shard_file`
    OUT/summary.json    moments, and the rows of the summary's lists

A shard whose file is there is done: a run that was killed goes on with the others.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from rich.console import Console

from diet_ray.config import to_mapping
from diet_ray.data.log import PreparedLog, Shard
from diet_ray.documents import parse_json
from diet_ray.errors import DataError, OutputError
from diet_ray.influence.config import POOL_KEYS
from diet_ray.influence.shard_pool import ShardPool
from diet_ray.models.catalogue import completed
from diet_ray.progress import Progress
from diet_ray.scoring.checkpoint import Checkpoint
from diet_ray.scoring.config import ScoreConfig
from diet_ray.scoring.listing import listed_rows
from diet_ray.scoring.prepare import prepare_scoring
from diet_ray.scoring.shard_file import read_summary, shard_file
from diet_ray.scoring.summary import Summary
from diet_ray.scoring.task import ScoreTask, Scoring
from diet_ray.storage import Folder

SCORES = "scores"
_ABOUT, _SUMMARY = "score.json", "summary.json"
_NAMES = "checkpoint_names"
"""For the reader alone: a file may move."""
_CHANGES_NO_SCORE = POOL_KEYS | {"on_bad_shard"}


@dataclass(frozen=True, kw_only=True)
class ScoredLog:
    """What a run has written."""

    path: Path
    summary: Summary
    num_rows: int
    skipped: tuple[str, ...]
    """Shards that were left out, and why."""
    seconds: float
    """Of this call."""


@dataclass(frozen=True)
class _MakeTask:
    scoring: ray.ObjectRef

    def __call__(self) -> ScoreTask:
        return ScoreTask(lambda: ray.get(self.scoring))


def score_log(
    log: PreparedLog,
    checkpoints: Sequence[Checkpoint],
    config: ScoreConfig,
    out: Path,
    console: Console | None = None,
) -> ScoredLog:
    """Scores all rows of `log`, test rows included, under `checkpoints`, the last of them last.

    Raises `OutputError` if `out` holds scores of something else, `DataError` naming a shard that
    can't be read or scored (with `on_bad_shard: skip` it is named in the result instead), and
    `ClusterError` if the cluster has no room.
    """
    begin_s = time.perf_counter()
    torch.set_num_threads(1)
    folder = Folder.at(out)
    _claim(folder, _about(log, checkpoints, config))
    scores = folder / SCORES
    for name in scores.names():
        (scores / name).delete_temporaries()
    shards = [s for stage in log.stages for s in stage.shards]
    summaries = {s.index: read_summary(scores, s) for s in shards if scores.exists(shard_file(s))}
    open_shards = [s for s in shards if s.index not in summaries]
    skipped: dict[int, str] = {}
    if open_shards:
        scoring = prepare_scoring(log, checkpoints, config, scores)
        done_rows = sum(s.num_rows for s in shards if s.index in summaries)
        total_rows = sum(s.num_rows for s in shards)
        with Progress(total_rows, "score", completed_rows=done_rows, console=console) as progress:
            _score(open_shards, scoring, summaries, skipped, progress)
    if not summaries:
        raise DataError(
            f"{log.path}: no shard could be scored; the first: {min(skipped.items())[1]}"
        )
    # In the order of the log, so that sums are the same however shards came in.
    ordered = [summaries[s.index] for s in shards if s.index in summaries]
    total = ordered[0]
    for summary in ordered[1:]:
        total = total.merged(summary, config.top)
    num_rows = sum(s.num_rows for s in shards if s.index in summaries)
    seconds = time.perf_counter() - begin_s
    reasons = tuple(skipped[i] for i in sorted(skipped))
    content = {
        "num_rows": num_rows,
        "seconds": seconds,
        "skipped": list(reasons),
        "moments": {
            n: {"mean": m.mean, "sd": m.sd, "smallest": m.smallest, "largest": m.largest}
            for n, m in total.moments.items()
        },
        "lists": listed_rows(log, total),
    }
    folder.write(_SUMMARY, json.dumps(content, indent=1).encode())
    return ScoredLog(path=out, summary=total, num_rows=num_rows, skipped=reasons, seconds=seconds)


def _score(
    shards: Sequence[Shard],
    scoring: Scoring,
    summaries: dict[int, Summary],
    skipped: dict[int, str],
    progress: Progress,
) -> None:
    """Adds every shard to `summaries` or, as configured, to `skipped`."""
    rows_of = {s.index: s.num_rows for s in shards}
    with ShardPool(shards, _MakeTask(ray.put(scoring)), scoring.config, "scoring") as pool:
        for result in pool.arrivals():
            if result.error is not None:
                if scoring.config.on_bad_shard == "fail":
                    raise DataError(result.error)
                skipped[result.shard] = result.error
            else:
                assert result.content is not None
                summaries[result.shard] = Summary.from_json(result.content.decode())
            progress.advance(rows_of[result.shard])


def _about(
    log: PreparedLog, checkpoints: Sequence[Checkpoint], config: ScoreConfig
) -> dict[str, Any]:
    settings = to_mapping(config)
    return {
        "log": log.fingerprint,
        "num_rows": log.num_train_rows + log.num_test_rows,
        "checkpoints": [
            {"candidate": to_mapping(c.candidate), "sha256": _digest(c)} for c in checkpoints
        ],
        "config": {k: v for k, v in settings.items() if k not in _CHANGES_NO_SCORE},
        _NAMES: [c.name for c in checkpoints],
    }


def _checkpoints_in(about: dict[str, Any]) -> list[dict[str, Any]]:
    found = about.get("checkpoints")
    return [c for c in found if isinstance(c, dict)] if isinstance(found, list) else []


def _digest(checkpoint: Checkpoint) -> str:
    digest = hashlib.sha256(json.dumps(to_mapping(checkpoint.features)).encode())
    for tensors in (checkpoint.weights, checkpoint.second_moments or {}):
        for name, tensor in sorted(tensors.items()):
            digest.update(name.encode())
            content = tensor.detach().cpu().flatten().contiguous().view(torch.uint8)
            digest.update(content.numpy().data)
    return digest.hexdigest()


def _claim(folder: Folder, about: dict[str, Any]) -> None:
    if not folder.exists(_ABOUT):
        if folder.names():
            raise OutputError(f"{folder}: exists and holds no scores: choose another --out")
        folder.write(_ABOUT, json.dumps(about, indent=1).encode())
        return
    try:
        found = parse_json(folder.read(_ABOUT), f"{folder}/{_ABOUT}", OutputError)
    except OutputError as e:
        raise OutputError(f"{e}; delete the folder") from None
    wanted = json.loads(json.dumps(about))
    for checkpoint in _checkpoints_in(found):
        checkpoint["candidate"] = completed(checkpoint.get("candidate"))
    different = [key for key in about if key != _NAMES and found.get(key) != wanted[key]]
    if different:
        raise OutputError(
            f"{folder}: holds scores of another {' and '.join(different)}: choose another --out"
        )
