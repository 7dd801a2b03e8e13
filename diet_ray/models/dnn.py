"""Embeddings and a multi-layer perceptron.

Zhang, Du, Wang: Deep Learning over Multi-field Categorical Data, ECIR 2016, arXiv 1601.02376;
without their pre-training by factorisation machines.

    z = b + w · MLP([e_1, …, e_F])
"""

from __future__ import annotations

from torch import Tensor

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.layers import NumericFields, Output, mlp, pool


class DNN(Recommender):
    def __init__(
        self,
        features: FeatureSpec,
        embedding_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
    ) -> None:
        super().__init__(features, embedding_size)
        self.numeric = NumericFields(features, embedding_size)
        self.mlp = mlp(features.num_fields * embedding_size, hidden_sizes, dropout)
        self.output = Output(hidden_sizes[-1])

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        fields = self.numeric(pool(gathered, batch), batch)
        hidden = self.mlp(fields.flatten(1))
        return HeadOutput(self.output(hidden), hidden)
