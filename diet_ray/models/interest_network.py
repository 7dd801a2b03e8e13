"""A multi-layer perceptron over all fields, histories read by a reader: what such models share."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from diet_ray.data.batch import Batch, FeatureSpec, SequenceSpec
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.histories import Interests
from diet_ray.models.layers import NumericFields, Output, mlp


class InterestNetwork(Recommender):
    """z = b + v · MLP([e_1, …, e_F]) with a reader's vectors in the place of a history.

    make_reader gives the reader of a history, of `num_vectors` vectors, see `histories`.
    """

    def __init__(
        self,
        features: FeatureSpec,
        embedding_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
        make_reader: Callable[[SequenceSpec], nn.Module],
        num_vectors: int = 1,
    ) -> None:
        super().__init__(features, embedding_size)
        self.interests = Interests(features, make_reader)
        self.numeric = NumericFields(features, embedding_size)
        total = features.num_fields + (num_vectors - 1) * len(self.interests)
        self.mlp = mlp(total * embedding_size, hidden_sizes, dropout)
        self.output = Output(hidden_sizes[-1])

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        fields = self.numeric(self.interests(gathered, batch), batch)
        hidden = self.mlp(fields.flatten(1))
        return HeadOutput(self.output(hidden), hidden)
