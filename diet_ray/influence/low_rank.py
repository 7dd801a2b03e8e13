"""What second moments alone say about the influences ⟨g_n, s_m⟩ of N rows on M slots.

With G (N, D) the rows' gradients, S (M, D) the slots', C_G = GᵀG and C_S = SᵀS, the matrix G Sᵀ is
never needed for its sums, S Σ_n g_n and s_mᵀ C_G s_m, nor for its size, ‖G Sᵀ‖² = tr(C_G C_S).

Nor for its best approximation of rank k, (G U)(S W)ᵀ with U and W (D, k): its squared error is
‖C_G^½ (I − U Wᵀ) C_S^½‖², which by the theorem of Eckart and Young ("The approximation of one
matrix by another of lower rank", 1936) is least at the leading k terms of the singular value
decomposition

    C_G^½ C_S^½ = P Σ Qᵀ,   U = C_S^½ Q_k Σ_k^−½,   W = C_G^½ P_k Σ_k^−½,

and then Σ_{j>k} σ_j². The σ_j² are the eigenvalues of C_G^½ C_S C_G^½. U and W need no inverse: it
is the projection of balanced truncation (Moore, "Principal component analysis in linear systems",
1981) with C_G and C_S as the Gramians.

A low rank bounds influences, too. With V (D, q) orthonormal, and x⊥ what Vᵀx leaves of x, by
Cauchy-Schwarz

    ⟨g, s⟩ ≤ ⟨Vᵀg, Vᵀs⟩ + ‖g⊥‖‖s⊥‖ ≤ ‖g‖‖s‖.

`Screen` takes the leading eigenvectors of C_S as V, so that ‖s⊥‖ is small (as FEXIPRO does: Li,
Chan, Yiu, Mamoulis, "FEXIPRO: Fast and Exact Inner Product Retrieval in Recommender Systems",
2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_SCREEN_RANK = 8
_SAMPLE_STRIDE = 16


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Sums over N gradients g of D numbers, in float64."""

    num_rows: int
    first: Tensor
    """(D,): Σ g"""
    second: Tensor
    """(D, D): Σ g gᵀ"""

    @classmethod
    def of(cls, gradients: Tensor) -> Moments:
        """Moments of gradients (N, D)."""
        exact = gradients.double()
        return cls(num_rows=len(exact), first=exact.sum(0), second=exact.T @ exact)

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            num_rows=self.num_rows + other.num_rows,
            first=self.first + other.first,
            second=self.second + other.second,
        )

    def influence_sum(self, slots: Tensor) -> Tensor:
        """(M,) float64: Σ_n ⟨g_n, s_m⟩ for slots (M, D). Of slots' moments, by symmetry: for rows,
        their sums over slots."""
        return slots.double() @ self.first

    def influence_square_sum(self, slots: Tensor) -> Tensor:
        """(M,) float64: Σ_n ⟨g_n, s_m⟩² for slots (M, D)."""
        exact = slots.double()
        return ((exact @ self.second) * exact).sum(1)


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """G Sᵀ ≈ (G U)(S W)ᵀ."""

    row_map: Tensor
    """U (D, k), float64."""
    slot_map: Tensor
    """W (D, k), float64."""

    def rows(self, gradients: Tensor) -> Tensor:
        """(N, k): projections of rows' gradients (N, D), in their dtype."""
        return gradients @ self.row_map.to(gradients)

    def slots(self, gradients: Tensor) -> Tensor:
        """(M, k): projections of slots' gradients (M, D), in their dtype."""
        return gradients @ self.slot_map.to(gradients)

    def relative_error(self, rows: Moments, slots: Moments) -> float:
        """‖G Sᵀ − (G U)(S W)ᵀ‖ / ‖G Sᵀ‖ in the Frobenius norm, whatever the projection was fitted
        to; 0 if all influences are."""
        rest = torch.eye(len(self.row_map)).to(self.row_map) - self.row_map @ self.slot_map.T
        error = ((rest.T @ rows.second @ rest) * slots.second).sum()
        size = (rows.second * slots.second).sum()
        return float((error.clamp_min(0.0) / size).sqrt()) if size > 0 else 0.0


def best_low_rank(rows: Moments, slots: Moments, rank: int) -> LowRank:
    """The approximation of least error for rows and slots of these moments.

    Where fewer than `rank` σ differ from zero, the other columns are zero.
    """
    row_root, slot_root = _root(rows.second), _root(slots.second)
    left, sigma, right = torch.linalg.svd(row_root @ slot_root)
    left, sigma, right = left[:, :rank], sigma[:rank], right[:rank].T
    negligible = sigma <= len(row_root) * torch.finfo(sigma.dtype).eps * sigma[:1]
    scale = sigma.rsqrt().masked_fill(negligible, 0.0)
    return LowRank(row_map=slot_root @ right * scale, slot_map=row_root @ left * scale)


def _root(second: Tensor) -> Tensor:
    """The symmetric square root of a positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(second)
    return vectors * values.clamp_min(0.0).sqrt() @ vectors.T


class Screen:
    """Excludes rows that by the two bounds can reach no threshold of any slot or its opposite."""

    def __init__(self, slots: Tensor, error: float, tile_size: int) -> None:
        """Slots (M, D), in the dtype of products, which are off by at most `error`‖g‖‖s‖ / 4.
        About `tile_size` numbers are worked on at once."""
        exact = slots.double()
        norm = exact.norm(dim=1)
        _, vectors = torch.linalg.eigh(exact.T @ exact)
        self._basis = vectors[:, -min(_SCREEN_RANK, (slots.shape[1] + 1) // 2) :]
        self._error = error
        self._dtype = slots.dtype
        self._block_rows = max(64, tile_size // (2 * len(slots)))
        along, rest = self._split(exact, norm)
        self._directed = torch.cat([torch.cat([along, -along]), torch.cat([rest, rest])], dim=1)
        self._norm = torch.cat([norm, norm])

    def set_thresholds(self, threshold: Tensor) -> None:
        """(2M,) float64: of the slots, then of their opposites; −∞ excludes nothing."""
        least_norm = (threshold * (1 - self._error) / self._norm).nan_to_num(0.0)
        self._least_norm, order = least_norm.sort()
        bound = torch.cat([self._directed, -threshold[:, None]], dim=1)
        self._bound = bound[order].to(self._dtype)

    def passes(self, exact: Tensor, norm: Tensor, order: Tensor) -> Tensor:
        """The part that isn't excluded of `order` (B,), which sorts float64 gradients `exact`
        (B, D) by descending `norm` (B,)."""
        # Screening costs a good part of what it may save, so a sample tells whether to do it.
        sample = order[::_SAMPLE_STRIDE]
        if 2 * len(self._passing(exact, norm, sample)) > len(sample):
            return order
        return self._passing(exact, norm, order)

    def _passing(self, exact: Tensor, norm: Tensor, order: Tensor) -> Tensor:
        norm = norm[order]
        along, rest = self._split(exact.index_select(0, order), norm)
        rows = torch.cat([along, rest, torch.ones_like(rest)], dim=1).to(self._dtype)
        # Lists are in order of the norm that they ask for: a block is too short for the last ones.
        longest = norm[:: self._block_rows].contiguous()
        num_lists = torch.searchsorted(self._least_norm, longest, right=True).tolist()
        reaches = torch.zeros_like(order, dtype=torch.bool)
        blocks = zip(rows.split(self._block_rows), reaches.split(self._block_rows), strict=True)
        for n, (block, part) in zip(num_lists, blocks, strict=True):
            if n > 0:
                part.copy_((self._bound[:n] @ block.T).amax(0) >= 0)
        return order[reaches]

    def _split(self, vectors: Tensor, norm: Tensor) -> tuple[Tensor, Tensor]:
        """Vᵀx (B, q) and ‖x⊥‖ (B, 1), the latter enlarged so that the bound covers the rounding of
        its own product: (a² + εA²)½ (b² + εB²)½ ≥ ab + εAB."""
        along = vectors @ self._basis
        rest = (norm.square() - along.square().sum(1)).clamp_min(0.0)
        return along, (rest + self._error * norm.square()).sqrt()[:, None]
