"""Field-weighted factorisation machine: one weight for each pair of fields.

Pan, Xu, Ruiz, Zhao, Pan, Sun, Lu: Field-weighted Factorization Machines for Click-Through Rate
Prediction in Display Advertising, WWW 2018, arXiv 1806.03514.

    z = b + Σ_i ⟨v_i, e_i⟩ + Σ_{i<j} r_ij ⟨e_i, e_j⟩

The linear part is the paper's FiLV: a vector v_i for each field, in place of a weight for each id.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.interactions import pairwise_products
from diet_ray.models.layers import NumericFields, Output, pool


class FwFM(Recommender):
    def __init__(self, features: FeatureSpec, embedding_size: int) -> None:
        super().__init__(features, embedding_size)
        num_fields = features.num_fields
        self.numeric = NumericFields(features, embedding_size)
        self.output = Output(num_fields * embedding_size + num_fields * (num_fields - 1) // 2)

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        fields = self.numeric(pool(gathered, batch), batch)
        hidden = torch.cat([fields.flatten(1), pairwise_products(fields)], dim=1)
        return HeadOutput(self.output(hidden), hidden)
