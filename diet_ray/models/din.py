"""Deep interest network: behaviour history, weighted by its relevance to the candidate item.

Zhou et al.: Deep Interest Network for Click-Through Rate Prediction, KDD 2018, arXiv 1706.06978.

    e_s = Σ_l a(q, k_l) k_l   for a sequence that shares the ids of a categorical field, q
    z = b + v · MLP([e_1, …, e_F])

The activation unit a is an MLP of [k, k − q, k ∘ q, q] with one hidden layer of `ACTIVATION_SIZE`,
ReLU in place of the paper's Dice, which mixes the rows of a batch; its weights aren't normalised
over items, as in the paper. A sequence with ids of its own is mean-pooled; a
log without any other sequence makes this model a DNN.
"""

from __future__ import annotations

from torch import Tensor

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.histories import Interests, TargetAttention
from diet_ray.models.layers import NumericFields, Output, mlp

ACTIVATION_SIZE = 32


class DIN(Recommender):
    def __init__(
        self,
        features: FeatureSpec,
        embedding_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
    ) -> None:
        super().__init__(features, embedding_size)
        self.attention = Interests(
            features, lambda _: TargetAttention(embedding_size, ACTIVATION_SIZE)
        )
        self.numeric = NumericFields(features, embedding_size)
        self.mlp = mlp(features.num_fields * embedding_size, hidden_sizes, dropout)
        self.output = Output(hidden_sizes[-1])

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        fields = self.numeric(self.attention(gathered, batch), batch)
        hidden = self.mlp(fields.flatten(1))
        return HeadOutput(self.output(hidden), hidden)
