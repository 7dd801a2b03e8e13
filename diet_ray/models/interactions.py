"""Parts that let fields interact: products of pairs, cross layers, gates.

Names as in `layers`; pairs i < j are in row-major order.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def bi_interaction(fields: Tensor) -> Tensor:
    """Σ_{i<j} e_i ∘ e_j = ½ [(Σ e)² − Σ e²] over fields (B, F, d), elementwise: (B, d)."""
    return 0.5 * (fields.sum(dim=1).square() - fields.square().sum(dim=1))


def pairwise_products(fields: Tensor) -> Tensor:
    """Inner products ⟨e_i, e_j⟩, i < j in row-major order, of fields (B, F, d): (B, F(F−1)/2)."""
    i, j = _pairs(fields)
    return (fields @ fields.transpose(1, 2))[:, i, j]


def pairwise_vectors(fields: Tensor) -> Tensor:
    """e_i ∘ e_j, i < j, of fields (B, F, d): (B, F(F−1)/2, d)."""
    i, j = _pairs(fields)
    return fields.index_select(1, i) * fields.index_select(1, j)


def _pairs(fields: Tensor) -> tuple[Tensor, Tensor]:
    """i and j of every pair of fields (B, F, d)."""
    num_fields = fields.shape[1]
    i, j = torch.triu_indices(num_fields, num_fields, offset=1, device=fields.device)
    return i, j


class BilinearPairs(nn.Module):
    """(M_ij e_i) ∘ e_j, i < j, of fields (B, F, d): (B, F(F−1)/2, d); one matrix for each pair."""

    def __init__(self, num_fields: int, embedding_size: int) -> None:
        super().__init__()
        # All matrices of one e_i, which has F − 1 − i partners, are one layer.
        self.matrices = nn.ModuleList(
            nn.Linear(embedding_size, num_partners * embedding_size, bias=False)
            for num_partners in range(num_fields - 1, 0, -1)
        )

    def forward(self, fields: Tensor) -> Tensor:
        size = fields.shape[2]
        mapped = [m(fields[:, i]).unflatten(1, (-1, size)) for i, m in enumerate(self.matrices)]
        _, j = _pairs(fields)
        return torch.cat([fields[:, :0], *mapped], dim=1) * fields.index_select(1, j)


class CrossLayer(nn.Module):
    """x_0 (w · x) + b + x, for x_0 and x (B, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Linear(width, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x_0: Tensor, x: Tensor) -> Tensor:
        return x_0 * self.weight(x) + self.bias + x


class MatrixCrossLayer(nn.Module):
    """x_0 ∘ (W x + b) + x, for x_0 and x (B, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x_0: Tensor, x: Tensor) -> Tensor:
        return x_0 * self.linear(x) + x


class GatedCrossLayer(nn.Module):
    """x_0 ∘ (W x + b) ∘ σ(W_g x) + x, for x_0 and x (B, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.gate = nn.Linear(width, width, bias=False)

    def forward(self, x_0: Tensor, x: Tensor) -> Tensor:
        return x_0 * self.linear(x) * torch.sigmoid(self.gate(x)) + x


class MaskedCrossLayer(nn.Module):
    """x_0 ∘ ([c, c ∘ relu(LN(c))] + b) + x with c = W x, for x_0 and x (B, D).

    c has D / 2 entries, rounded up; what then is too much of [c, …] is cut off.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Linear(width, (width + 1) // 2, bias=False)
        self.norm = nn.LayerNorm((width + 1) // 2)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x_0: Tensor, x: Tensor) -> Tensor:
        c = self.weight(x)
        crossed = torch.cat([c, c * torch.relu(self.norm(c))], dim=1)[:, : x.shape[1]]
        return x_0 * (crossed + self.bias) + x


class FieldGate(nn.Module):
    """2σ(a) ∘ x for x (B, D): a soft choice among inputs; begins as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.choice = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return 2.0 * torch.sigmoid(self.choice) * x


class FieldShares(nn.Module):
    """F · softmax(a)_f e_f for fields (B, F, d): fields compete; begins as the identity."""

    def __init__(self, num_fields: int) -> None:
        super().__init__()
        self.choice = nn.Parameter(torch.zeros(num_fields))

    def forward(self, fields: Tensor) -> Tensor:
        share = torch.softmax(self.choice, dim=0)
        return fields * (len(self.choice) * share).unsqueeze(1)


class BilinearFusion(nn.Module):
    """Σ_k x_k · W_k y_k (B,), over the parts of x and y (B, H), cut alike into `num_heads` parts.

    Parts differ by one where H can't be divided; there are at most H.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        num_heads = min(num_heads, width)
        self.sizes = [len(part) for part in torch.arange(width).tensor_split(num_heads)]
        self.heads = nn.ModuleList(nn.Linear(size, size, bias=False) for size in self.sizes)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        parts = zip(self.heads, x.split(self.sizes, 1), y.split(self.sizes, 1), strict=True)
        products = [x_k * head(y_k) for head, x_k, y_k in parts]
        return torch.cat(products, dim=1).sum(dim=1)
