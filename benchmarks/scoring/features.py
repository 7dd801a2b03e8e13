"""The fields that speed is measured on, and random rows of them.

Ten categorical fields, of 20,000, 5,000 and eight times 100 ids; with a history, twenty more items
of the second. Small ids are frequent, as the values of a log are.
"""

from __future__ import annotations

import numpy as np
import torch

from diet_ray.data.batch import NUM_RESERVED_IDS, PADDING_ID, Batch, FeatureSpec, SequenceSpec

NUM_IDS = (20_000, 5_000, *(100,) * 8)
NAMES = ("user", "item", *(f"context_{i}" for i in range(8)))
HISTORY_LENGTH = 20
CLICK_SHARE = 0.3


def features(*, with_history: bool = False) -> FeatureSpec:
    history = SequenceSpec(
        name="watched", max_length=HISTORY_LENGTH, target="item", num_ids=NUM_IDS[1]
    )
    return FeatureSpec(
        categorical=NAMES,
        num_ids=NUM_IDS,
        numeric=(),
        sequence=(history,) if with_history else (),
    )


def random_ids(rng: np.random.Generator, num_ids: int, shape: tuple[int, ...]) -> np.ndarray:
    """int32, none of them reserved; an id's share falls with its power of −2/3."""
    draws = rng.random(shape, dtype=np.float32)
    ids = NUM_RESERVED_IDS + (num_ids - NUM_RESERVED_IDS) * draws**3
    return np.minimum(ids, num_ids - 1).astype(np.int32)


def random_batch(spec: FeatureSpec, num_rows: int, seed: int) -> Batch:
    """Histories are of every length from none to full, and repeat items."""
    rng = np.random.default_rng(seed)
    categorical = np.stack([random_ids(rng, n, (num_rows,)) for n in spec.num_ids], axis=1)
    length = spec.max_sequence_length
    sequence = np.full((num_rows, len(spec.sequence), length), PADDING_ID, dtype=np.int32)
    for i, s in enumerate(spec.sequence):
        items = random_ids(rng, s.num_ids, (num_rows, length))
        present = np.arange(length) < rng.integers(0, s.max_length + 1, (num_rows, 1))
        sequence[:, i] = np.where(present, items, PADDING_ID)
    label = (rng.random(num_rows) < CLICK_SHARE).astype(np.float32)
    numeric = np.empty((num_rows, 0), dtype=np.float32)
    return Batch(*(torch.from_numpy(a) for a in (categorical, numeric, sequence, label)))
