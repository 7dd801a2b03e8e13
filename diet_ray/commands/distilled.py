"""What a distillation says when it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console


def print_distilled(dataset: Any, path: Path) -> None:
    Console().print(
        f"{dataset.num_slots:,} slots ({dataset.row_fraction:.2%} of the rows, "
        f"{dataset.byte_fraction:.2%} of the bytes) in {path / 'distilled'}",
        soft_wrap=True,
    )
