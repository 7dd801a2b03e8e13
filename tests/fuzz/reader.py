"""What a reader is to the fuzzer: its real files, and what reading broken ones may lead to."""

from __future__ import annotations

import dataclasses
import io
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

EXAMPLES = Path(__file__).parents[2] / "examples"


CHANGED, SEALED = ".changed", ".sealed"


"""Marks in a folder: a file was rewritten, not damaged; checksums were made right again."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """`read` may raise a `DietError`, or return; what it then checks by `assert` is what makes a
    result a correct one. A file that a checksum guards must be refused or read as what it was.
    """

    name: str
    make: Callable[[Path], None]
    """Writes the real files into a folder."""
    read: Callable[[Path, Path], None]
    """(folder, folder of the real files): reads the folder's files."""
    weight: float
    alone: bool = False
    """Each file is read by itself, so the others need not be there."""
    changes: Callable[[bytes, random.Random], bytes] | None = None
    """A change that leaves a file well-formed, beside damage to its bytes."""
    seal: Callable[[Path, str], None] | None = None
    """Makes the checksums that guard a file in the folder right again, as an attacker would."""


def files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def quiet() -> Console:
    return Console(file=io.StringIO(), width=80)


def check_config(value: Any) -> None:
    """Numbers in a configuration are finite and fit in 64 bits."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            check_config(getattr(value, field.name))
    elif isinstance(value, tuple | list):
        for item in value:
            check_config(item)
    elif isinstance(value, float):
        assert math.isfinite(value)
    elif isinstance(value, int):
        assert -(2**63) <= value < 2**63
    elif isinstance(value, str):
        value.encode()
        assert "\0" not in value
