from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from diet_ray.influence.leverage import leverage, whitening


@pytest.fixture
def features() -> torch.Tensor:
    """(50, 6), of very different sizes."""
    g = torch.Generator().manual_seed(0)
    scale = torch.tensor([1e-3, 0.1, 1, 1, 10, 100], dtype=torch.float64)
    return torch.randn(50, 6, generator=g, dtype=torch.float64) * scale


def test_the_formula_by_hand(features: torch.Tensor):
    phi = features.numpy()
    moments = phi.T @ phi / len(phi)
    inverse = np.linalg.inv(moments + 1e-3 * np.trace(moments) / 6 * np.eye(6))
    expected = np.array([row @ inverse @ row for row in phi])
    found = leverage(features, whitening(features))
    assert_close(found.numpy(), expected, rtol=1e-9, atol=0)
    assert 0 < found.mean() <= 6


def test_it_doesnt_depend_on_the_gradients_unit(features: torch.Tensor):
    found = leverage(features, whitening(features))
    assert_close(leverage(1e-4 * features, whitening(1e-4 * features)), found)


def test_it_is_exact_in_float32_as_well(features: torch.Tensor):
    found = leverage(features.float(), whitening(features.float()))
    assert found.dtype == torch.float32
    assert_close(found.double(), leverage(features, whitening(features)), rtol=1e-6, atol=0)


def test_what_is_common_has_little_and_what_is_new_has_much():
    common, rare = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    sample = torch.cat([common.expand(99, 2), rare])
    found = leverage(torch.cat([common, rare, torch.zeros(1, 2)]), whitening(sample))
    assert found[1] > 50 * found[0] > 0
    assert found[2] == 0


def test_a_sample_of_fewer_rows_than_features_and_one_of_nothing():
    g = torch.Generator().manual_seed(0)
    few = torch.randn(3, 8, generator=g)
    assert torch.isfinite(leverage(few, whitening(few))).all()
    nothing = torch.zeros(3, 8)
    assert torch.equal(leverage(nothing, whitening(nothing)), torch.zeros(3))
