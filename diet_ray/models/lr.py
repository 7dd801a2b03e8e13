"""Logistic regression.

Richardson, Dominowska, Ragno: Predicting Clicks: Estimating the Click-Through Rate for New Ads,
WWW 2007.

    z = b + Σ_i w[id_i] + Σ_n u_n x_n

over categorical fields i and numeric fields n; a sequence adds the mean weight of its items.
"""

from __future__ import annotations

from torch import Tensor, nn

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.layers import Output, pool


class LR(Recommender):
    linear = True

    def __init__(self, features: FeatureSpec) -> None:
        super().__init__(features, embedding_size=0)
        self.output = Output(len(features.numeric))
        # Convex: nothing is won by a random start, and few steps would not forget it.
        nn.init.zeros_(self.output.weight)

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        hidden = batch.numeric.to(gathered.dtype)
        first_order = pool(gathered, batch).sum(dim=(1, 2))
        return HeadOutput(first_order + self.output(hidden), hidden)
