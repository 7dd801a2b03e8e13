"""Tensors in safetensors form from files that anybody may have written or broken."""

from __future__ import annotations

import json
from typing import NamedTuple

import safetensors.torch
from torch import Tensor

from diet_ray.documents import cut
from diet_ray.errors import DietError


class TensorFile(NamedTuple):
    tensors: dict[str, Tensor]
    """On the CPU."""
    metadata: dict[str, str]
    """What the file says of itself."""


def parse_tensors(content: bytes, where: str, error: type[DietError]) -> TensorFile:
    """The content of a safetensors file. Raises `error` naming `where`, and what is wrong."""
    try:
        tensors = safetensors.torch.load(content)
        # The library has checked the header's length and form, but doesn't hand on its metadata.
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        metadata = header.get("__metadata__") or {}
    except Exception as e:
        # It raises what PyTorch and NumPy raise, beside its own errors.
        reason = cut(str(e)) or type(e).__name__
        raise error(f"{where}: no whole safetensors file: {reason}") from None
    return TensorFile(tensors, {str(k): str(v) for k, v in metadata.items()})
