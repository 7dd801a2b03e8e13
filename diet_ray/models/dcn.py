"""Deep & cross network.

Wang, Fu, Fu, Wang: Deep & Cross Network for Ad Click Predictions, ADKDD 2017, arXiv 1708.05123;
without its batch normalisation.

    x_0 = [e_1, …, e_F],  x_{l+1} = x_0 (x_l · w_l) + b_l + x_l
    z = b + v · [x_L, MLP(x_0)]
"""

from __future__ import annotations

from diet_ray.models.deep_cross import DeepCross
from diet_ray.models.interactions import CrossLayer


class DCN(DeepCross):
    cross_layer = CrossLayer
