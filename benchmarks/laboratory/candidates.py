"""What is searched in the laboratory: every architecture at its defaults, and random draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diet_ray.data.batch import FeatureSpec
from diet_ray.models.catalogue import Candidate, core_candidates

DRAWS_PER_ARCHITECTURE = 6


def candidates_of(features: FeatureSpec, draws: int = DRAWS_PER_ARCHITECTURE) -> list[Candidate]:
    """(1 + draws) candidates of each architecture; the same for every log but for field names.

    Architecture × embedding size × depth and width × dropout × weight decay × learning rate ×
    batch size × one field left out.
    """
    generator = np.random.default_rng(4)
    sequences = tuple(s.name for s in features.sequence)
    fields = (*features.categorical, *features.numeric, *sequences)
    found = []
    for default in core_candidates():
        found.append(default)
        for i in range(draws):
            choose = generator.choice
            rate = float(f"{np.exp(generator.uniform(np.log(3e-4), np.log(5e-3))):.3g}")
            left_out = generator.random(2)
            candidate = Candidate(
                name=f"{default.name}-{i + 1}",
                architecture=default.architecture,
                embedding_size=int(choose([4, 8, 16, 32])),
                hidden_sizes=[(32,), (64, 32), (128, 64), (256, 128)][int(choose(4))],
                num_cross_layers=int(choose([1, 2, 3])),
                dropout=float(choose([0.0, 0.0, 0.1, 0.3])),
                weight_decay=float(choose([0.0, 0.0, 0.1, 1.0])),
                learning_rate=rate,
                batch_size=int(choose([256, 512, 1024])),
            )
            if left_out[0] < 0.3:
                name = fields[int(left_out[1] * len(fields))]
                candidate = replace(candidate, without_fields=(name,))
            found.append(candidate)
    return found
