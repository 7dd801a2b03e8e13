"""Deep interest evolution network: how an interest moved towards the candidate item.

Zhou, Mou, Fan, Pi, Bian, Zhou, Zhu, Gai: Deep Interest Evolution Network for Click-Through Rate
Prediction, AAAI 2019, arXiv 1809.03672.

    h_l = GRU(k_1, …, k_l)   for a sequence that shares the ids of a categorical field, q
    a = softmax_l ⟨h_l, W q⟩,  e_s = AUGRU(h_1, …, h_L; a)   whose update gates are times a_l
    z = b + v · MLP([e_1, …, e_F])

Without the auxiliary loss on next items, which needs items that were *not* chosen. A sequence with
ids of its own is mean-pooled; a log without any other sequence makes this model a DNN.
"""

from __future__ import annotations

from torch import Tensor, nn

from diet_ray.data.batch import FeatureSpec
from diet_ray.models.attention import masked_softmax
from diet_ray.models.histories import GatedRecurrentUnit
from diet_ray.models.interest_network import InterestNetwork


class InterestEvolution(nn.Module):
    """Reader of one vector: the last state of an AUGRU over the states of a GRU."""

    def __init__(self, embedding_size: int) -> None:
        super().__init__()
        self.extraction = GatedRecurrentUnit(embedding_size)
        self.query = nn.Linear(embedding_size, embedding_size, bias=False)
        self.evolution = GatedRecurrentUnit(embedding_size)

    def forward(self, items: Tensor, target: Tensor, present: Tensor) -> Tensor:
        states: Tensor = self.extraction(items, present.to(items.dtype))
        scores = (states @ self.query(target).unsqueeze(2)).squeeze(2)
        evolved: Tensor = self.evolution(states, masked_softmax(scores, present))
        return evolved[:, -1]


class DIEN(InterestNetwork):
    def __init__(
        self,
        features: FeatureSpec,
        embedding_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
    ) -> None:
        super().__init__(
            features,
            embedding_size,
            hidden_sizes,
            dropout,
            lambda _: InterestEvolution(embedding_size),
        )
