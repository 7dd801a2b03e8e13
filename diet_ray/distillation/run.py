"""A run on disk and on a cluster: where its parts lie, and how they are put together.

    RUN/distill.json    the configuration
    RUN/log/            the encoded log, by stage
    RUN/memory/         the evolving memory: write-ahead log and committed stages
    RUN/distilled/      the distilled dataset, published after the last stage
    RUN/status.json     what the run is doing

Every step can be killed and called again: what is finished is found and not done twice.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from diet_ray.config import from_mapping, to_mapping
from diet_ray.data.log import PreparedLog, Stage
from diet_ray.data.prepare import append, prepare
from diet_ray.data.schema import Schema
from diet_ray.data.sources.config import SourceConfig
from diet_ray.distillation.config import DistillConfig
from diet_ray.distillation.description import description
from diet_ray.distillation.pipeline import (
    Distiller,
    remaining_stages,
    resume,
    slot_budgets,
)
from diet_ray.distillation.proxy import Proxies
from diet_ray.distillation.stream import StreamState
from diet_ray.documents import load_json
from diet_ray.errors import ClusterError, ConfigError, DataError, OutputError
from diet_ray.influence.config import POOL_KEYS
from diet_ray.influence.pool import ScoringPool
from diet_ray.memory.actor import MemoryClient
from diet_ray.memory.dataset import DistilledDataset
from diet_ray.memory.publish import publish
from diet_ray.memory.snapshot import Snapshots
from diet_ray.monitoring.monitor import monitored, watcher_of
from diet_ray.monitoring.observer import Observers
from diet_ray.progress import Progress
from diet_ray.storage import Folder


@dataclass(frozen=True)
class RunFolder:
    path: Path

    @property
    def config(self) -> Path:
        return self.path / "distill.json"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def memory(self) -> Path:
        return self.path / "memory"

    @property
    def distilled(self) -> Path:
        return self.path / "distilled"


def distill(config: DistillConfig, path: Path, console: Console | None = None) -> DistilledDataset:
    """Distils a whole log into the run folder `path`, or goes on with one that was killed.

    Raises `OutputError` if the folder holds something else, or a run that is finished.
    """
    run = RunFolder(path)
    is_new = _claim(run, config)
    try:
        with monitored(run.path, "distill", config.loggers) as observers:
            if not (run.log / "log.json").exists():
                _prepare(run, config, console)
            return _distil_remaining(run, config, console, observers)
    except (ClusterError, ConfigError, DataError) as e:
        # What is wrong with log, configuration or cluster shows before the first commit. Any other
        # error leaves the run: its storage may answer later, or another driver have taken it over.
        # So does a cluster that fails once the log is prepared, which may have taken hours.
        goes_on = isinstance(e, ClusterError) and (run.log / "log.json").exists()
        if is_new and not goes_on and not Snapshots(Folder.at(run.memory) / "stages").stages():
            shutil.rmtree(run.path)
        raise


def update(
    path: Path, source: SourceConfig | None = None, console: Console | None = None
) -> DistilledDataset:
    """Adds a new day's rows to a run, as one more stage or several; history isn't read again.

    Without a source, finishes an update that was killed. Raises `DataError` if the rows are older
    than the run's.
    """
    run = RunFolder(path)
    config = load_run_config(run)
    log = PreparedLog.open(str(run.log))
    with monitored(run.path, "update", config.loggers) as observers:
        if source is not None:
            with Progress(None, "prepare", console=console) as progress:
                append(log, source, progress.advance, intake=config.intake)
        return _distil_remaining(run, config, console, observers)


def load_run_config(run: RunFolder) -> DistillConfig:
    """The configuration of a run. Raises `DataError` if there is none."""
    if not run.config.exists():
        raise DataError(f"{run.config}: no such file: {run.path} is no run of diet")
    return from_mapping(DistillConfig, load_json(run.config), str(run.config))


def load_proxies(run: RunFolder) -> Proxies:
    """The proxies after the last stage. Raises `DataError` if there is none yet."""
    config = load_run_config(run)
    log = PreparedLog.open(str(run.log))
    snapshots = Snapshots(Folder.at(run.memory) / "stages")
    committed = snapshots.latest()
    if committed is None:
        raise DataError(f"{run.memory}: no stage is committed yet: run `diet distill` first")
    proxies = Proxies(config.proxies, log.features_at(committed.stage), config.seed)
    return StreamState.from_blobs(proxies, snapshots.state(committed)).proxies


def _claim(run: RunFolder, config: DistillConfig) -> bool:
    """Makes the folder this run's, True, or checks that it is, False."""
    wanted = to_mapping(config)
    if run.path.exists() and not run.path.is_dir():
        raise OutputError(f"{run.path}: is a file: choose another --out")
    is_new = not run.path.exists() or not any(run.path.iterdir())
    if not is_new:
        _check_same(run, config)
    # Of a run that is there, too: what may differ counts from now on, in later updates as well.
    Folder.at(run.path).write(run.config.name, json.dumps(wanted, indent=1).encode())
    return is_new


def _check_same(run: RunFolder, config: DistillConfig) -> None:
    """Raises `OutputError` if the folder isn't that of this run, still to be finished."""
    if not run.config.exists():
        raise OutputError(f"{run.path}: exists and is no run of diet: choose another --out")
    different = _first_difference(_identity(load_run_config(run)), _identity(config))
    if different is not None:
        raise OutputError(
            f"{run.path}: holds a run with another `{different}`: choose another --out"
        )
    if (run.distilled / "manifest.json").exists():
        raise OutputError(
            f"{run.path}: is distilled already: choose another --out, or add rows by `diet update`"
        )


def _identity(config: DistillConfig) -> dict[str, Any]:
    """What makes a run another one: all but who watches it, on how many actors it runs and what is
    kept of it."""
    settings = {k: v for k, v in to_mapping(config).items() if k not in ("loggers", "kept_stages")}
    influence = {k: v for k, v in settings["influence"].items() if k not in POOL_KEYS}
    # Runs of earlier versions have them as they were given.
    paths = [p if "://" in p else str(Path(p).absolute()) for p in settings["source"]["paths"]]
    return settings | {
        "influence": influence,
        "schema": str(Path(settings["schema"]).absolute()),
        "source": settings["source"] | {"paths": paths},
    }


def _first_difference(a: Any, b: Any, where: str = "") -> str | None:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted({*a, *b}):
            found = _first_difference(a.get(key), b.get(key), f"{where}.{key}" if where else key)
            if found is not None:
                return found
        return None
    return None if a == b else where


def _prepare(run: RunFolder, config: DistillConfig, console: Console | None) -> None:
    schema = Schema.load(config.schema)
    with Progress(None, "prepare", console=console) as progress:
        prepare(
            config.source, schema, config.stages, run.log, progress.advance, intake=config.intake
        )


def _distil_remaining(
    run: RunFolder, config: DistillConfig, console: Console | None, observers: Observers
) -> DistilledDataset:
    # Bits depend on the number of threads.
    torch.set_num_threads(1)
    log = PreparedLog.open(str(run.log))
    budgets = slot_budgets(log, config)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    memory = MemoryClient(run.memory, log.schema, retention=config.kept_stages)
    try:
        position = memory.begin()
        state = resume(log, config, memory, device)
        stages = remaining_stages(log, state)
        if stages:
            scorer = ScoringPool(log, stages, config.lead, config.influence, budgets, config.seed)
            with scorer, _progress(stages, state, console) as progress:
                watcher = watcher_of(log, progress, observers)
                Distiller(log, config, state, scorer, memory, position, watcher).run(stages)
        slots = memory.slots()
    finally:
        memory.close()
    publish(
        run.distilled,
        slots,
        description(config, log, state, slots.num_rows),
        vocabulary=run.log / "vocabulary",
    )
    return DistilledDataset.load(run.distilled)


def _progress(stages: Sequence[Stage], state: StreamState, console: Console | None) -> Progress:
    total_rows = state.rows_seen + sum(s.num_rows for s in stages)
    return Progress(total_rows, "distil", completed_rows=state.rows_seen, console=console)
