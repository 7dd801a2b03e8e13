"""Which slots a stage may change: those whose gradient its own gradient bears on most.

A slot's similarity ⟨ḡ_t, g_m⟩ is the inner product of its loss gradient with the stage's mean one,
under the same weights. To first order, a step on slot m changes the loss on the stage's rows by
−η⟨ḡ_t, g_m⟩: a large positive value marks a slot that already teaches what the stage needs, a large
negative one a slot that teaches against it. Both are worth refining, one that is orthogonal isn't,
so slots are ranked by |⟨ḡ_t, g_m⟩|.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from diet_ray.errors import DistilledSetError


@dataclass(frozen=True, kw_only=True)
class AddressingConfig:
    mode: Literal["top", "all", "none"] = "top"
    """`top` addresses the `num_slots` of largest |similarity|; the others are for ablations."""
    num_slots: int = 4096

    def __post_init__(self) -> None:
        if self.num_slots < 1:
            raise ValueError("num_slots must be at least 1")


def address(similarity: np.ndarray, slots: np.ndarray, config: AddressingConfig) -> np.ndarray:
    """Indices (K,), int64, ascending, into the slots that may be changed.

    similarity (M,) belongs to the slot numbers `slots` (M,); of equals the lower number goes first.
    Raises `DistilledSetError` naming a slot whose similarity isn't finite.
    """
    if similarity.shape != slots.shape:
        raise ValueError(f"{similarity.shape} similarities for {slots.shape} slots")
    if config.mode == "none":
        return np.empty(0, dtype=np.int64)
    if config.mode == "all" or slots.size <= config.num_slots:
        return np.arange(slots.size, dtype=np.int64)
    magnitude = np.abs(similarity)
    if not np.isfinite(magnitude).all():
        slot = slots[np.flatnonzero(~np.isfinite(magnitude))[0]]
        raise DistilledSetError(
            f"slot {slot}: its gradient isn't finite: the proxy diverged; lower its learning rate"
        )
    order = np.lexsort((slots, -magnitude))
    return np.sort(order[: config.num_slots]).astype(np.int64)
