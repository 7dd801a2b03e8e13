"""A consistency.json as the report takes it: checked once, before any figure is drawn of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diet_ray.documents import load_json, shown
from diet_ray.errors import DataError

_ARMS = ("full", "distilled")
_RUNS = ("auc", "logloss", "seconds")


def load_consistency(path: Path) -> dict[str, Any]:
    """Raises `DataError` naming the file, and the key that no comparison has written so.

    Figures may be missing or null, and keys unknown: older and newer comparisons have others.
    """
    content = load_json(path)
    candidates = content.get("candidates")
    if candidates is not None and not isinstance(candidates, list):
        raise DataError(f"{path}: candidates: expected a list, found {shown(candidates)}")
    for i, candidate in enumerate(candidates or []):
        where = f"{path}: candidates[{i}]"
        _expect_keys(candidate, where)
        _expect_keys(candidate.get("config") or {}, f"{where}: config")
        for arm in _ARMS:
            runs = candidate.get(arm) or {}
            _expect_keys(runs, f"{where}: {arm}")
            for key in _RUNS:
                _expect_numbers(runs.get(key), f"{where}: {arm}: {key}")
    for key in ("baselines", "intervals", "reasons", "versions"):
        _expect_keys(content.get(key) or {}, f"{path}: {key}")
    return content


def _expect_keys(value: Any, where: str) -> None:
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: expected keys, found {shown(value)}")


def _expect_numbers(value: Any, where: str) -> None:
    """Null, a number, or a list of numbers and nulls."""
    for item in value if isinstance(value, list) else [value]:
        if item is not None and (isinstance(item, bool) or not isinstance(item, int | float)):
            raise DataError(f"{where}: expected numbers, found {shown(item)}")
