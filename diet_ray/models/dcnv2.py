"""Deep & cross network with full cross matrices, in its parallel form.

Wang, Shivanna, Cheng, Jain, Lin, Hong, Chi: DCN V2: Improved Deep & Cross Network and Practical
Lessons for Web-scale Learning to Rank Systems, WWW 2021, arXiv 2008.13535.

    x_0 = [e_1, …, e_F],  x_{l+1} = x_0 ∘ (W_l x_l + b_l) + x_l
    z = b + v · [x_L, MLP(x_0)]
"""

from __future__ import annotations

from diet_ray.models.deep_cross import DeepCross
from diet_ray.models.interactions import MatrixCrossLayer


class DCNv2(DeepCross):
    cross_layer = MatrixCrossLayer
