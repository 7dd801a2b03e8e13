"""What `diet score` is asked for, put together: which log, under which checkpoints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from diet_ray.config import to_mapping
from diet_ray.data.log import PreparedLog
from diet_ray.data.prepare import prepare
from diet_ray.data.schema import Schema
from diet_ray.distillation.config import DistillConfig, load_distill_config
from diet_ray.distillation.proxy import Proxies
from diet_ray.distillation.run import RunFolder, load_run_config
from diet_ray.distillation.stream import StreamState
from diet_ray.documents import load_json
from diet_ray.errors import ConfigError, DataError, OutputError
from diet_ray.memory.snapshot import Snapshots
from diet_ray.models.catalogue import Candidate
from diet_ray.progress import Progress
from diet_ray.scoring.checkpoint import Checkpoint
from diet_ray.scoring.config import ScoreConfig
from diet_ray.scoring.score_log import ScoredLog, score_log
from diet_ray.scoring.train import train_checkpoints
from diet_ray.storage import Folder

_ORIGIN = "origin.json"
"""What OUT/log was made of."""


def score(
    path: Path,
    config: ScoreConfig,
    out: Path,
    *,
    checkpoints: Sequence[Path] = (),
    candidate: Candidate | None = None,
    num_trained: int = 0,
    console: Console | None = None,
) -> ScoredLog:
    """Scores the log of a run, or the one that a configuration file names (prepared into OUT/log).

    Under `checkpoints`, files of one training in its order; else under `num_trained` checkpoints of
    `candidate` (default: the leading proxy's) trained along the log; else under the run's leading
    proxy after its last stage.
    """
    run = RunFolder(path)
    if path.is_file():
        settings = load_distill_config(path)
        log = _prepared(settings, out, console)
        num_trained = num_trained or (0 if checkpoints else 1)
    else:
        settings = load_run_config(run)
        log = PreparedLog.open(str(run.log))
    if checkpoints:
        found = tuple(Checkpoint.load(c, log.features, candidate) for c in checkpoints)
    elif num_trained:
        lead = candidate or settings.lead
        found = train_checkpoints(log, lead, num_trained, out / "checkpoints", settings.seed)
    elif candidate is not None:
        raise ConfigError("a candidate alone has no weights: give --checkpoint FILE, or --train N")
    else:
        found = (_lead_of(run, settings, log),)
    return score_log(log, found, config, out / "scored", console)


def _prepared(settings: DistillConfig, out: Path, console: Console | None) -> PreparedLog:
    """The configuration's log, encoded into OUT/log unless it is there already.

    Raises `OutputError` if what is there was made of something else.
    """
    schema = Schema.load(settings.schema)
    origin = {
        "source": to_mapping(settings.source),
        "schema": to_mapping(schema),
        "stages": to_mapping(settings.stages),
        "intake": to_mapping(settings.intake),
        # Of checkpoints that are trained along the log.
        "seed": settings.seed,
    }
    folder = Folder.at(out)
    if not folder.exists("log/log.json"):
        folder.write(_ORIGIN, json.dumps(origin, indent=1).encode())
        with Progress(None, "prepare", console=console) as progress:
            prepare(
                settings.source,
                schema,
                settings.stages,
                out / "log",
                progress.advance,
                intake=settings.intake,
            )
    elif not folder.exists(_ORIGIN) or load_json(out / _ORIGIN) != origin:
        raise OutputError(
            f"{out}: holds a log of another source, schema, stages, intake or seed: choose "
            "another --out"
        )
    return PreparedLog.open(str(out / "log"))


def _lead_of(run: RunFolder, settings: DistillConfig, log: PreparedLog) -> Checkpoint:
    """The leading proxy after the last committed stage."""
    snapshots = Snapshots(Folder.at(run.memory) / "stages")
    committed = snapshots.latest()
    if committed is None:
        raise DataError(
            f"{run.memory}: no stage is committed yet: run `diet distill` first, or train along "
            "the log with --train 1"
        )
    proxies = Proxies(settings.proxies, log.features_at(committed.stage), settings.seed)
    state = StreamState.from_blobs(proxies, snapshots.state(committed))
    name = f"{settings.lead.name} after stage {committed.stage}"
    return Checkpoint.of_proxy(state.proxies.lead, name)
