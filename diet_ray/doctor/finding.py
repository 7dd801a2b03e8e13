"""One thing that was looked at, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "failure"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    subject: str
    status: Status
    found: str
    advice: str = ""
    """What to change; empty if nothing."""


def ok(subject: str, found: str) -> Finding:
    return Finding(subject=subject, status="ok", found=found)


def warning(subject: str, found: str, advice: str) -> Finding:
    """Runs, but slower or less safely than it could."""
    return Finding(subject=subject, status="warning", found=found, advice=advice)


def failure(subject: str, found: str, advice: str) -> Finding:
    """Nothing, or not this, will run."""
    return Finding(subject=subject, status="failure", found=found, advice=advice)
