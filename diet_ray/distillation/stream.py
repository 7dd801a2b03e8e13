"""Where a run stands between two stages: all that the next one needs besides the slots."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

import safetensors.torch

from diet_ray.distillation.proxy import Proxies
from diet_ray.distillation.retention import RowSample


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """What one stage did, as it stands in the manifest."""

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
            "proxies.safetensors": safetensors.torch.save(self.proxies.state()),
            "stream.json": json.dumps(scalars, sort_keys=True).encode(),
            "seconds.json": json.dumps(self.seconds).encode(),
        }
        if self.retained is not None:
            blobs["retained.safetensors"] = safetensors.torch.save(self.retained.state())
        return blobs

    @classmethod
    def from_blobs(cls, proxies: Proxies, blobs: dict[str, bytes]) -> StreamState:
        """Inverse of `blobs`; `proxies` have the features of the committed stage."""
        scalars = json.loads(blobs["stream.json"])
        proxies.load_state(safetensors.torch.load(blobs["proxies.safetensors"]))
        retained = blobs.get("retained.safetensors")
        return cls(
            proxies=proxies,
            retained=_sample(retained),
            gradient_norm=float.fromhex(scalars["gradient_norm"]),
            records=[StageRecord(**r) for r in scalars["records"]],
            seconds=json.loads(blobs["seconds.json"]),
        )


def _sample(blob: bytes | None) -> RowSample | None:
    return None if blob is None else RowSample.from_state(safetensors.torch.load(blob))
