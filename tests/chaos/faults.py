"""What a fault is, and what it does to the one it befalls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FaultKind = Literal[
    "error",  # refused, nothing done
    "error after",  # done, but reported as failed
    "torn",  # a part is written, then an error
    "late",  # reported as failed, and done some operations later
    "full",  # no space from now on, until somebody makes room
    "denied",  # nothing allowed from now on, until somebody grants it
    "crash",  # the process dies before it
    "crash after",  # or right after it
    "crash torn",  # or in the middle
    "lie",  # a part is written, and success reported
    "flip",  # one bit is written wrongly, and success reported
    "unreadable",  # one reading operation fails; counted among those
]


class Crash(BaseException):
    """A process dies here. Nothing catches it but what plays the machine."""


class DriverDied(Exception):
    """The driver is gone in the middle of a run."""


class Violation(AssertionError):
    """A promise was broken."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    operation: int
    """Which of the operations that change the storage, from 1 on over the whole schedule."""
    kind: FaultKind
