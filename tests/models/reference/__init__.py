"""Each architecture's formula for one row, written with loops and the weights of a model."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tests.models.reference.attention import (
    autoint,
    autoint_plus,
    destine,
)
from tests.models.reference.crosses import (
    afm,
    dcn,
    dcnv2,
    dcnv3,
    deepfm,
    dnn,
    edcn,
    fibinet,
    final,
    finalmlp,
    fm,
    fmfm,
    fwfm,
    gdcn,
    lr,
    masknet,
    nfm,
    pnn,
    wide_deep,
    xdeepfm,
)
from tests.models.reference.histories import (
    bst,
    dien,
    din,
    hstu,
    sim,
    transact,
)
from tests.models.reference.row import Row

__all__ = ["FORMULAS", "Row"]

FORMULAS: dict[str, Callable[[Row], Tensor]] = {
    f.__name__: f
    for f in (
        lr,
        fm,
        dnn,
        wide_deep,
        deepfm,
        nfm,
        dcn,
        dcnv2,
        pnn,
        autoint,
        finalmlp,
        din,
        xdeepfm,
        fibinet,
        masknet,
        final,
        dcnv3,
        fwfm,
        fmfm,
        afm,
        edcn,
        gdcn,
        destine,
        autoint_plus,
        dien,
        sim,
        bst,
        hstu,
        transact,
    )
}
