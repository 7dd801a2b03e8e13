"""How unusual a row's gradient is among the rows of a reference sample.

ℓ(φ) = φᵀ (ΦᵀΦ/n + λI)⁻¹ φ, the ridge leverage score (Alaoui and Mahoney, arXiv 1411.0306) times n,
in gradient features. Its mean over the sample is at most K. A row whose gradient is small, or lies
where many rows' gradients lie, has little: what it teaches, others teach as well.
"""

from __future__ import annotations

import torch
from torch import Tensor

_RIDGE = 1e-3
"""λ over the mean eigenvalue."""


def whitening(features: Tensor) -> Tensor:
    """(K, K): W with ℓ(φ) = ‖φW‖², from a sample's features (n, K)."""
    exact = features.double()
    moments = exact.T @ exact / len(exact)
    mean = moments.diagonal().mean()
    # Rows without any gradient have no leverage, whatever the ridge.
    mean = torch.where(mean > 0, mean, 1.0)
    ridge = _RIDGE * mean * torch.eye(len(moments), dtype=torch.float64, device=moments.device)
    inverse = torch.linalg.inv(moments + ridge)
    return torch.linalg.cholesky((inverse + inverse.T) / 2).to(features.dtype)


def leverage(features: Tensor, whitening: Tensor) -> Tensor:
    """(B,): ℓ of features (B, K)."""
    return (features @ whitening).square().sum(1)
