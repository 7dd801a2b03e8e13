"""Distil a click log into 1-2 % of its rows, and search architectures on that."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diet_ray.api import check_consistency, distill, load, search_candidates, update
    from diet_ray.data.log import PreparedLog
    from diet_ray.data.schema import Schema
    from diet_ray.errors import DietError
    from diet_ray.memory.dataset import DistilledDataset
    from diet_ray.models.base import HeadOutput, Recommender
    from diet_ray.models.catalogue import Candidate, default_candidates

__all__ = [
    "Candidate",
    "DietError",
    "DistilledDataset",
    "HeadOutput",
    "PreparedLog",
    "Recommender",
    "Schema",
    "check_consistency",
    "default_candidates",
    "distill",
    "load",
    "search_candidates",
    "update",
]

_HOMES = {
    "Candidate": "models.catalogue",
    "DietError": "errors",
    "DistilledDataset": "memory.dataset",
    "HeadOutput": "models.base",
    "PreparedLog": "data.log",
    "Recommender": "models.base",
    "Schema": "data.schema",
    "check_consistency": "api",
    "default_candidates": "models.catalogue",
    "distill": "api",
    "load": "api",
    "search_candidates": "api",
    "update": "api",
}


def __getattr__(name: str) -> Any:
    # On demand, so that a process that needs no torch (the memory actor) doesn't import it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
