"""The beginning of the shipped KuaiRand sample as a small real log, and a quick configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

SAMPLE = Path(__file__).parent.parent / "examples" / "data" / "kuairand-sample.parquet"
SCHEMA = Path(__file__).parent.parent / "examples" / "kuairand" / "schema.yaml"

SETTINGS: dict[str, Any] = {
    "schema": str(SCHEMA),
    "source": {"paths": ["log.parquet"]},
    "stages": {"by": "rows", "rows": 1000, "test_fraction": 0.2, "shard_rows": 300},
    "budget": {"fraction": 0.05},
    "proxies": [
        {
            "name": "proxy",
            "architecture": "dnn",
            "embedding_size": 4,
            "hidden_sizes": [8],
            "batch_size": 128,
        }
    ],
    "influence": {"num_scorers": 1},
    "refinement": {"outer_steps": 2},
    "retained_rows": 256,
}


def write_log(path: Path, first_row: int = 0, num_rows: int = 4000) -> Path:
    """Rows of the sample, in time order."""
    pq.write_table(pq.read_table(SAMPLE).slice(first_row, num_rows), path)
    return path


def write_config(folder: Path, **changes: Any) -> Path:
    """A configuration of `SETTINGS` with other keys, beside its log `log.parquet`."""
    path = folder / "distill.yaml"
    path.write_text(yaml.safe_dump(SETTINGS | changes))
    return path
