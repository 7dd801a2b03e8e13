"""Checkpoints of a candidate along a log, for whoever has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from diet_ray.data.log import PreparedLog
from diet_ray.distillation.proxy import Proxy
from diet_ray.errors import ConfigError
from diet_ray.models.catalogue import Candidate
from diet_ray.progress import Progress
from diet_ray.scoring.checkpoint import Checkpoint


def train_checkpoints(
    log: PreparedLog, candidate: Candidate, num_checkpoints: int, folder: Path, seed: int = 0
) -> tuple[Checkpoint, ...]:
    """Trains once over the training part, in time order, and keeps evenly spaced checkpoints.

    A checkpoint lies at the end of a stage, the last one at the end of the log. Files that are all
    there are read instead. Raises `ConfigError` if the log has fewer stages.
    """
    if candidate.schedule:
        raise ConfigError(
            f"candidate `{candidate.name}`: schedule: checkpoints are of a training at rates that "
            "stay: leave it out, or take what `diet train` gives"
        )
    stages = log.train_stages
    if not 1 <= num_checkpoints <= len(stages):
        raise ConfigError(
            f"{num_checkpoints} checkpoints: the log has {len(stages)} training stages, and a "
            "checkpoint lies at the end of one"
        )
    kept = np.linspace(0, len(stages), num_checkpoints + 1).round().astype(int)[1:] - 1
    paths = {int(i): folder / f"stage-{stages[i].index:05d}.safetensors" for i in kept}
    if not all(path.exists() for path in paths.values()):
        _train(log, candidate, paths, seed)
    try:
        return tuple(Checkpoint.load(path, log.features, candidate) for path in paths.values())
    except ConfigError as e:
        raise ConfigError(f"{e}, or choose another --out") from None


def _train(log: PreparedLog, candidate: Candidate, paths: dict[int, Path], seed: int) -> None:
    # Bits depend on the number of threads.
    torch.set_num_threads(1)
    stages = log.train_stages
    device = "cuda" if torch.cuda.is_available() else "cpu"
    proxy = Proxy(candidate, log.features_at(stages[0].index), seed, device)
    with Progress(log.num_train_rows, "train") as progress:
        for i, stage in enumerate(stages):
            proxy.grow(log.features_at(stage.index))
            proxy.train(log.batches([stage], device))
            progress.advance(stage.num_rows)
            if i in paths:
                Checkpoint.of_proxy(proxy, paths[i].name).save(paths[i])
