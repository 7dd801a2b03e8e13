"""Multi-layer perceptron whose inputs are masked by what the row is (serial MaskNet).

Wang, She, Zhang: MaskNet: Introducing Feature-Wise Multiplication to CTR Ranking Models by
Instance-Guided Mask, DLP-KDD 2021, arXiv 2102.07619.

    x = [e_1, …, e_F],  h_0 = [LN(e_1), …, LN(e_F)]
    h_{k+1} = relu(LN(W_k (m_k ∘ h_k)))   with the mask m_k = V_k relu(U_k x + a_k) + c_k
    z = b + v · h_K

One block for each of hidden_sizes. U_k keeps the width of h_k (the paper's reduction ratio, 1 in
BARS). One gain and shift normalises all fields: a mask is free to scale them apart.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.layers import NumericFields, Output, dropout_layers, pool


class MaskBlock(nn.Module):
    """relu(LN(W (mask(x) ∘ h))) for what guides the mask, x (B, D), and h (B, in_features)."""

    def __init__(self, width: int, in_features: int, out_features: int, dropout: float) -> None:
        super().__init__()
        self.mask = nn.Sequential(
            nn.Linear(width, in_features), nn.ReLU(), nn.Linear(in_features, in_features)
        )
        self.hidden = nn.Sequential(
            nn.Linear(in_features, out_features, bias=False),
            nn.LayerNorm(out_features),
            nn.ReLU(),
            *dropout_layers(dropout),
        )

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        masked: Tensor = self.hidden(self.mask(x) * h)
        return masked


class MaskNet(Recommender):
    def __init__(
        self,
        features: FeatureSpec,
        embedding_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
    ) -> None:
        if min(embedding_size, *hidden_sizes) < 2:
            raise ValueError(
                "embedding_size and hidden_sizes must be at least 2: of one number "
                "nothing is left once it is normalised"
            )
        super().__init__(features, embedding_size)
        width = features.num_fields * embedding_size
        self.numeric = NumericFields(features, embedding_size)
        self.norm = nn.LayerNorm(embedding_size)
        self.blocks = nn.ModuleList(
            MaskBlock(width, in_features, out_features, dropout)
            for in_features, out_features in itertools.pairwise((width, *hidden_sizes))
        )
        self.output = Output(hidden_sizes[-1])

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        fields = self.numeric(pool(gathered, batch), batch)
        hidden = self.norm(fields).flatten(1)
        for block in self.blocks:
            hidden = block(fields.flatten(1), hidden)
        return HeadOutput(self.output(hidden), hidden)
