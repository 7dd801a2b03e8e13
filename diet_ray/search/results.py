"""Run results as JSON: persisted as runs finish, read back when paid runs are reused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from diet_ray.config import from_mapping
from diet_ray.search.runs import RunResult


def to_json(result: RunResult) -> dict[str, Any]:
    """Plain numbers, lists and dicts."""
    return dataclasses.asdict(result)


def from_json(content: Mapping[str, Any]) -> RunResult:
    """Inverse of `to_json`. Raises `ConfigError` if it isn't such a result."""
    return from_mapping(RunResult, content, "result")
