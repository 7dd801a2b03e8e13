"""Deep & cross network with an information gate on every cross, in its parallel form.

Wang, Gu, Li, Lu, Zhang, Gu: Towards Deeper, Lighter and Interpretable Cross Network for CTR
Prediction, CIKM 2023, arXiv 2311.04635.

    x_0 = [e_1, …, e_F],  x_{l+1} = x_0 ∘ (W_l x_l + b_l) ∘ σ(V_l x_l) + x_l
    z = b + v · [x_L, MLP(x_0)]

Embeddings are of one size: the paper's field-level sizes are a way to smaller tables, not a part of
the network.
"""

from __future__ import annotations

from diet_ray.models.deep_cross import DeepCross
from diet_ray.models.interactions import GatedCrossLayer


class GDCN(DeepCross):
    cross_layer = GatedCrossLayer
