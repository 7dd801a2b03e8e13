"""Self-attention between fields, disentangled into pairwise and unary terms.

Xu, Zhu, Yu, Liu, Wu: Disentangled Self-Attentive Neural Networks for Click-Through Rate Prediction,
CIKM 2021, arXiv 2101.03654; its main form, without a deep part.

    α_ij = softmax_j ⟨Q_h e_i − μ_Q, K_h e_j − μ_K⟩ + softmax_j u_h · e_j   (μ: means over fields)
    e_i ← [Σ_j α_ij V_h e_j]_h + R e_i   (each layer)
    z = b + v · [e_1, …, e_F]

Each head has the embedding size, as in AutoInt here. Without biases, which the means and the
softmax take away, and without activation between layers, as in the authors' code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diet_ray.models.attention import merge_heads, split_heads
from diet_ray.models.autoint import AutoInt


class DisentangledAttention(nn.Module):
    """[head_1, …, head_H] + W_res e_i for every field i: (B, F, width) to (B, F, H·d)."""

    def __init__(self, in_features: int, head_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value, self.residual = (
            nn.Linear(in_features, num_heads * head_size, bias=False) for _ in range(4)
        )
        self.unary = nn.Linear(in_features, num_heads, bias=False)

    def forward(self, fields: Tensor) -> Tensor:
        query, key, value = (
            split_heads(layer(fields), self.num_heads)
            for layer in (self.query, self.key, self.value)
        )
        # The mean key takes the same from all scores of a query, which the softmax doesn't see.
        query = query - query.mean(dim=2, keepdim=True)
        pairwise = torch.softmax(query @ key.transpose(2, 3), dim=3)
        unary = torch.softmax(self.unary(fields), dim=1).transpose(1, 2).unsqueeze(2)
        return merge_heads((pairwise + unary) @ value) + self.residual(fields)


class DESTINE(AutoInt):
    attention_layer = DisentangledAttention
