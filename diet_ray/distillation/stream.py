"""Where a run stands between two stages: all that the next one needs besides the slots."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import ClassVar

import safetensors.torch

from diet_ray.config import from_mapping
from diet_ray.distillation.proxy import Proxies
from diet_ray.distillation.retention import RowSample
from diet_ray.documents import parse_json
from diet_ray.errors import DistilledSetError
from diet_ray.parquet import decoding
from diet_ray.tensor_file import parse_tensors

_STREAM, _SECONDS = "stream.json", "seconds.json"
_PROXIES, _RETAINED = "proxies.safetensors", "retained.safetensors"


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """What one stage did, as it stands in the manifest."""

    allows_nan: ClassVar[bool] = True
    """Of losses."""
    stage: int
    rows: int
    rows_seen: int
    slots: int
    """Of the memory, after the stage."""
    proposed: int
    addressed: int
    fused: int
    """Slots that fusion took away."""
    refinement_accepted: bool
    refinement_loss_before: float | None
    refinement_loss_after: float | None
    mean_influence: float
    progressive_log_loss: float
    """Of the proxies, every row predicted before it was trained on."""
    bytes_received: int
    """What the scorers sent back."""
    clipped_rows: int = 0
    """Whose gradients were too large to count in full, see `InfluenceConfig.clip_ratio`."""


@dataclass
class StreamState:
    """Committed with every stage. Random draws are seeded by (seed, stage), so no generator's state
    is among it; the position in the stream is the last stage of `records`."""

    proxies: Proxies
    retained: RowSample | None = None
    gradient_norm: float = 0.0
    records: list[StageRecord] = field(default_factory=list)
    seconds: float = 0.0
    """Wall-clock of all committed stages."""

    @property
    def rows_seen(self) -> int:
        return self.records[-1].rows_seen if self.records else 0

    def blobs(self) -> dict[str, bytes]:
        """Files by name, for a commit."""
        scalars = {
            "gradient_norm": self.gradient_norm.hex(),
            "records": [asdict(r) for r in self.records],
        }
        blobs = {
            _PROXIES: safetensors.torch.save(self.proxies.state()),
            _STREAM: json.dumps(scalars, sort_keys=True).encode(),
            _SECONDS: json.dumps(self.seconds).encode(),
        }
        if self.retained is not None:
            blobs[_RETAINED] = safetensors.torch.save(self.retained.state())
        return blobs

    @classmethod
    def from_blobs(cls, proxies: Proxies, blobs: dict[str, bytes]) -> StreamState:
        """Inverse of `blobs`; `proxies` have the features of the committed stage.

        Raises `DistilledSetError` naming the blob that is missing or isn't what `blobs` wrote.
        """
        missing = {_STREAM, _PROXIES, _SECONDS} - set(blobs)
        if missing:
            raise DistilledSetError(f"the memory's last commit has no {min(missing)}")
        scalars = parse_json(blobs[_STREAM], _STREAM, DistilledSetError)
        with decoding(_STREAM, DistilledSetError):
            gradient_norm = float.fromhex(scalars["gradient_norm"])
            if not 0 <= gradient_norm < math.inf:
                raise ValueError("gradient_norm must be finite and at least 0")
            records = [
                from_mapping(StageRecord, r, f"{_STREAM}: record {i}")
                for i, r in enumerate(scalars["records"])
            ]
            counts = [(r.stage, r.rows, r.rows_seen, r.slots, r.clipped_rows) for r in records]
            if any(min(of_stage) < 0 for of_stage in counts):
                raise ValueError("numbers of rows and slots must be at least 0")
        with decoding(_SECONDS, DistilledSetError):
            seconds = float(json.loads(blobs[_SECONDS]))
            if not 0 <= seconds < math.inf:
                raise ValueError("seconds must be finite and at least 0")
        tensors, _ = parse_tensors(blobs[_PROXIES], _PROXIES, DistilledSetError)
        with decoding(_PROXIES, DistilledSetError):
            proxies.load_state(tensors)
        retained: RowSample | None = None
        if _RETAINED in blobs:
            tensors, _ = parse_tensors(blobs[_RETAINED], _RETAINED, DistilledSetError)
            with decoding(_RETAINED, DistilledSetError):
                retained = RowSample.from_state(tensors)
        return cls(
            proxies=proxies,
            retained=retained,
            gradient_norm=gradient_norm,
            records=records,
            seconds=seconds,
        )
