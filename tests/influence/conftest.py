from __future__ import annotations

import pytest
import torch

from diet_ray.data.batch import Batch
from tests.influence.influence_model import FEATURES, TinyModel, random_batch


@pytest.fixture
def model() -> TinyModel:
    torch.manual_seed(0)
    model = TinyModel(FEATURES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
        model.table.weight[list(model.table.block_starts)] = 0.0
    return model.double()


@pytest.fixture
def batch() -> Batch:
    """Corner cases first: everything repeated, target in the history, empty, then random rows."""
    rows = random_batch(20, seed=1)
    sequence = rows.sequence.clone()
    categorical = rows.categorical.clone()
    sequence[0] = torch.tensor([[5, 5, 5, 5], [3, 3, 3, 0]])
    categorical[0, 1] = 5
    sequence[1] = torch.tensor([[2, 4, 2, 0], [1, 2, 0, 0]])
    categorical[1, 1] = 4
    sequence[2] = 0
    return Batch(categorical, rows.numeric, sequence, rows.label)
