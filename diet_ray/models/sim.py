"""Search-based interest model: attention to those items alone that a search finds relevant.

Pi, Zhou, Zhang, Wang, Ren, Fan, Zhu, Gai: Search-based User Interest Modeling with Lifelong
Sequential Behavior Data for Click-Through Rate Prediction, CIKM 2020, arXiv 2006.05639; its soft
search.

    r_l = ⟨W_k k_l, W_q q⟩,  e_0 = Σ_l r_l k_l   for a sequence that shares the ids of a field, q
    e_h = Σ_{l found} softmax_{l found} ⟨K_h k_l, Q_h q⟩ k_l   for the heads h = 1 … num_heads
    z = b + v · MLP([e_1, …, e_F])   with [e_0, …, e_H] in the place of the sequence

*Found* are the `NUM_FOUND` items of largest r (the paper's 200 of a history of thousands). The
paper trains the search by a loss of its own on e_0; a model here has one loss, so e_0 enters the
perceptron. No times, which a log's histories don't have. A sequence with ids of its own is
mean-pooled; a log without any other sequence makes this model a DNN.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diet_ray.data.batch import FeatureSpec
from diet_ray.models.attention import masked_softmax, split_heads
from diet_ray.models.interest_network import InterestNetwork

NUM_FOUND = 8


class SearchAttention(nn.Module):
    """Reader of num_heads + 1 vectors: what the search weighs, and what each head attends to."""

    def __init__(self, embedding_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.search_key, self.search_query = (
            nn.Linear(embedding_size, embedding_size, bias=False) for _ in range(2)
        )
        self.key, self.query = (
            nn.Linear(embedding_size, num_heads * embedding_size, bias=False) for _ in range(2)
        )

    def forward(self, items: Tensor, target: Tensor, present: Tensor) -> Tensor:
        query = self.search_query(target).unsqueeze(2)
        relevance = (self.search_key(items) @ query).squeeze(2)
        searched = (items * relevance.masked_fill(~present, 0.0).unsqueeze(2)).sum(dim=1)

        least = torch.finfo(relevance.dtype).min
        num_found = min(NUM_FOUND, items.shape[1])
        found = relevance.masked_fill(~present, least).topk(num_found, dim=1).indices
        items = items.gather(1, found.unsqueeze(2).expand(-1, -1, items.shape[2]))
        present = present.gather(1, found)

        key = split_heads(self.key(items), self.num_heads)
        scores = key @ self.query(target).unflatten(1, (self.num_heads, -1)).unsqueeze(3)
        share = masked_softmax(scores.squeeze(3), present.unsqueeze(1))
        return torch.cat([searched, (share @ items).flatten(1)], dim=1)


class SIM(InterestNetwork):
    def __init__(
        self,
        features: FeatureSpec,
        embedding_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
        num_heads: int,
    ) -> None:
        super().__init__(
            features,
            embedding_size,
            hidden_sizes,
            dropout,
            lambda _: SearchAttention(embedding_size, num_heads),
            num_vectors=num_heads + 1,
        )
