"""What was measured on a log, in one JSON file by content hash, so that it is paid for once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from diet_ray.storage import Folder

DIGITS = 6
FORMAT = 2
"""Raised whenever runs, recipes or distillations come to find something else under the same key: no
entry says by which code it was measured."""
_FORMAT_KEY = "format"


class Ledger:
    """Entries by key; every one is on disk when `put` returns. One process writes."""

    def __init__(self, path: Path, known: Path | None = None) -> None:
        """`known` is another ledger's file whose entries are taken over, if it exists.

        Entries of another `FORMAT` are left out, and go with the next `put`.
        """
        self.path = path
        self._entries: dict[str, Any] = {}
        for source in (known, path):
            if source is not None and source.exists():
                found = json.loads(source.read_text())
                if found.get(_FORMAT_KEY) == FORMAT:
                    self._entries |= found
        self._entries[_FORMAT_KEY] = FORMAT

    def get(self, key: str) -> Any:
        """None if there is no such entry."""
        return self._entries.get(key)

    def put(self, key: str, value: Any) -> None:
        self._entries[key] = _rounded(value)
        lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(self._entries.items())]
        content = "{\n" + ",\n".join(lines) + "\n}\n"
        Folder.at(self.path.parent).write(self.path.name, content.encode())


def key_of(*parts: Any, tensors: Iterable[torch.Tensor] = ()) -> str:
    """A key that depends on all parts, by their JSON, and on the tensors' bytes."""
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:24]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list | tuple) else value
