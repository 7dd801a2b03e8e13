"""A log on disk that says which shards are read, and stops whoever reads a certain one.

`python watched_log.py LOG OUT ADDRESS` trains on it, for a test that kills this process.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import pyarrow as pa
import ray
import ray.cloudpickle

from diet_ray.data.log import PreparedLog, Shard
from diet_ray.models.catalogue import Candidate
from diet_ray.search.workers import WorkersConfig
from diet_ray.training.config import TrainConfig
from diet_ray.training.train_run import train_parallel
from tests.distillation import small_log as small

# Of 2976 training rows, 85 mini-batches are full and the last one has a row, too few for two
# workers; none can be halved, a shard holds no whole number of them, and a point of the loss curve
# ends within the epoch.
SHARD_ROWS = 496
NUM_TRAIN_ROWS = 6 * SHARD_ROWS
CANDIDATES = {
    name: Candidate(
        name=name,
        architecture=name,
        embedding_size=4,
        hidden_sizes=(8, 8),
        dropout=0.3,
        learning_rate=0.02,
        batch_size=35,
    )
    for name in ("dnn", "din")
}
CONFIG = TrainConfig(checkpoint_every_rows=700)
SEED = 3
VICTIM = 4
WORKERS = WorkersConfig(num_workers=2)


@dataclass(frozen=True, kw_only=True)
class WatchedLog(PreparedLog):
    """Stops the reader of shard `VICTIM` once OUT has a checkpoint; only once."""

    out: Path
    how: Literal["kill", "wait"]

    @classmethod
    def of(cls, log: PreparedLog, out: Path, how: Literal["kill", "wait"]) -> WatchedLog:
        values = {f.name: getattr(log, f.name) for f in fields(PreparedLog)}
        return cls(**values, out=out, how=how)

    @property
    def marker(self) -> Path:
        """Says that the reader was stopped already; while it is missing, `wait` waits for it."""
        return self.out.with_name(f"{self.out.name}-stopped")

    @property
    def reads(self) -> Path:
        """A line a read: process, shard."""
        return self.out.with_name(f"{self.out.name}-reads")

    def read_shard(self, shard: Shard, columns: Sequence[str] | None = None) -> pa.Table:
        with self.reads.open("a") as file:
            file.write(f"{os.getpid()} {shard.index}\n")
        if shard.index == VICTIM and not self.marker.exists():
            while not any((self.out / "checkpoints").glob("0*")):
                time.sleep(0.01)
            if self.how == "kill":
                try:
                    self.marker.open("x").close()
                except FileExistsError:
                    return super().read_shard(shard, columns)
                os.kill(os.getpid(), signal.SIGKILL)
            while not self.marker.exists():
                time.sleep(0.01)
        return super().read_shard(shard, columns)


def log_of(path: Path) -> PreparedLog:
    """Three training stages and a test one."""
    return small.small_log(path, shard_rows=SHARD_ROWS, num_test_stages=1)


# Workers don't have this folder on their path.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


if __name__ == "__main__":
    ray.init(address=sys.argv[3], log_to_driver=False)
    watched = WatchedLog.of(log_of(Path(sys.argv[1])), Path(sys.argv[2]), "wait")
    train_parallel(CANDIDATES["dnn"], watched, SEED, CONFIG, watched.out, WORKERS)
