"""Versions of what figures depend on."""

from __future__ import annotations

import importlib.metadata
import platform

_PACKAGES = ("diet-ray", "ray", "torch", "pyarrow", "numpy")


def installed_versions() -> dict[str, str]:
    """By name, Python's first; packages that aren't installed are left out."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
