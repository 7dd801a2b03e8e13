"""Back to an earlier stage: the memory as it was then, published again.

What the later stages did to the memory is dropped; their rows stay in RUN/log, and `diet update`
distils them again. Stages are kept as `kept_stages` says.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from diet_ray.data.log import PreparedLog
from diet_ray.distillation.description import description
from diet_ray.distillation.pipeline import resume
from diet_ray.distillation.run import RunFolder, load_run_config
from diet_ray.errors import DistilledSetError
from diet_ray.memory.dataset import DistilledDataset
from diet_ray.memory.publish import publish
from diet_ray.memory.snapshot import CommittedStage, Snapshots
from diet_ray.memory.store import MemoryStore
from diet_ray.storage import Folder


def kept_stages(path: Path) -> list[CommittedStage]:
    """What a run can go back to, the newest last. Raises `DataError` if it is no run."""
    run = RunFolder(path)
    load_run_config(run)
    snapshots = Snapshots(Folder.at(run.memory) / "stages")
    return [snapshots.read(stage) for stage in snapshots.stages()]


def roll_back(path: Path, stage: int) -> DistilledDataset:
    """Makes `stage` the last committed one, and publishes it.

    Raises `DistilledSetError` if it isn't kept, or if somebody distils into the run meanwhile.
    Killed on its way, it has gone back to some kept stage, `stage` or a later one; call it again.
    """
    run = RunFolder(path)
    config = load_run_config(run)
    log = PreparedLog.open(str(run.log))
    # The store's lock keeps others out; on the next line it would prune what it doesn't keep.
    memory = MemoryStore(run.memory, log.schema, retention=config.kept_stages)
    try:
        kept = [s.stage for s in kept_stages(path)]
        if stage not in kept:
            raise DistilledSetError(
                f"{run.memory}: stage {stage} isn't kept; kept: {', '.join(map(str, kept))}"
            )
        folder = Folder.at(run.memory) / "stages"
        for later in reversed(kept[kept.index(stage) + 1 :]):
            # Without its commit.json first, a half-removed folder would look damaged.
            folder.delete(f"{later:05d}/commit.json")
            folder.delete(f"{later:05d}")
    finally:
        memory.close()
    memory = MemoryStore(run.memory, log.schema, retention=config.kept_stages)
    try:
        state = resume(log, config, memory)
        slots = memory.slots()
    finally:
        memory.close()
    described = description(config, log, state, slots.num_rows)
    fingerprint = next(s.fingerprint for s in log.stages if s.index == stage)
    publish(
        run.distilled,
        slots,
        replace(described, source_fingerprint=fingerprint),
        vocabulary=run.log / "vocabulary",
    )
    return DistilledDataset.load(run.distilled)
