"""Two multi-layer perceptrons with gated inputs and bilinear fusion.

Mao, Zhu, Su, Cai, Li, Dong: FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction,
AAAI 2023, arXiv 2304.00902.

    x = [e_1, …, e_F],  o_s = MLP_s(2 σ(g_s) ∘ x)   for the streams s = 1, 2
    z = b + v_1 · o_1 + v_2 · o_2 + Σ_h o_1hᵀ W_h o_2h

with o_sh the h-th of num_heads parts of o_s. The gates g_s, zero at first, are learned
constants: the paper's form for streams that no field (such as user or item) is chosen to gate.

`output` holds v_1, v_2 and b, hence `hidden` = [o_1, o_2]; the logit is linear in W as well, but
the input of that part, o_1 ⊗ o_2, is too wide to be handed on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.interactions import BilinearFusion, FieldGate
from diet_ray.models.layers import NumericFields, Output, mlp, pool


class FinalMLP(Recommender):
    def __init__(
        self,
        features: FeatureSpec,
        embedding_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
        num_heads: int,
    ) -> None:
        super().__init__(features, embedding_size)
        width = features.num_fields * embedding_size
        self.numeric = NumericFields(features, embedding_size)
        self.streams = nn.ModuleList(
            nn.Sequential(FieldGate(width), mlp(width, hidden_sizes, dropout)) for _ in range(2)
        )
        self.fusion = BilinearFusion(hidden_sizes[-1], num_heads)
        self.output = Output(2 * hidden_sizes[-1])

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        x = self.numeric(pool(gathered, batch), batch).flatten(1)
        first, second = (stream(x) for stream in self.streams)
        hidden = torch.cat([first, second], dim=1)
        return HeadOutput(self.output(hidden) + self.fusion(first, second), hidden)
