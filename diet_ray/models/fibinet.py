"""Feature importance by squeeze and excitation (SENET), and bilinear interactions.

Huang, Zhang, Zhang: FiBiNET: Combining Feature Importance and Bilinear feature Interaction for
Click-Through Rate Prediction, RecSys 2019, arXiv 1905.09433.

    a = σ(W_2 relu(W_1 (mean_d e_id)_i)),  ẽ_i = a_i e_i
    p_ij = (M_ij e_i) ∘ e_j,  q_ij = (M̃_ij ẽ_i) ∘ ẽ_j   for i < j
    z = b + Σ_i w[id_i] + Σ_n u_n x_n + v · MLP([(p_ij), (q_ij)])

The bilinear matrices are one for each pair, the paper's *field-interaction*. W_1 reduces the F
fields by `REDUCTION`, the paper's 3. The outer activation, which the paper leaves open, is a
sigmoid as in SENet itself: a field that a ReLU turned off would stay off. A log of one field has no
pairs: the model is then LR.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.interactions import BilinearPairs
from diet_ray.models.layers import NumericFields, Output, mlp, pool, split_first_order

REDUCTION = 3


class SqueezeExcitation(nn.Module):
    """a_i e_i for fields (B, F, d), with weights a = σ(W_2 relu(W_1 means))."""

    def __init__(self, num_fields: int) -> None:
        super().__init__()
        num_reduced = max(1, num_fields // REDUCTION)
        self.excitation = nn.Sequential(
            nn.Linear(num_fields, num_reduced, bias=False),
            nn.ReLU(),
            nn.Linear(num_reduced, num_fields, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, fields: Tensor) -> Tensor:
        return fields * self.excitation(fields.mean(dim=2)).unsqueeze(2)


class FiBiNET(Recommender):
    linear = True

    def __init__(
        self,
        features: FeatureSpec,
        embedding_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
    ) -> None:
        super().__init__(features, embedding_size)
        num_fields, num_numeric = features.num_fields, len(features.numeric)
        self.has_pairs = num_fields > 1
        if not self.has_pairs:
            self.output = Output(num_numeric)
            return
        self.numeric = NumericFields(features, embedding_size)
        self.squeeze_excitation = SqueezeExcitation(num_fields)
        self.pairs = BilinearPairs(num_fields, embedding_size)
        self.weighted_pairs = BilinearPairs(num_fields, embedding_size)
        self.mlp = mlp(num_fields * (num_fields - 1) * embedding_size, hidden_sizes, dropout)
        self.output = Output(hidden_sizes[-1] + num_numeric)

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        embeddings, first_order = split_first_order(pool(gathered, batch))
        hidden = batch.numeric.to(embeddings.dtype)
        if self.has_pairs:
            fields = self.numeric(embeddings, batch)
            weighted = self.squeeze_excitation(fields)
            pairs = torch.cat([self.pairs(fields), self.weighted_pairs(weighted)], dim=1)
            hidden = torch.cat([self.mlp(pairs.flatten(1)), hidden], dim=1)
        return HeadOutput(first_order + self.output(hidden), hidden)
