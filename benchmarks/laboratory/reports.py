"""The figures of a log, kept as they come, so that tables can be written from several calls."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.laboratory.crossover import crossover
from benchmarks.laboratory.ledger import FORMAT, key_of
from diet_ray.storage import Folder


class LogReport:
    """Points of the curve by size, and other parts by name, in one JSON file; one process writes.

    What is put replaces what was there. Parts of other candidates, or of another `FORMAT`, are
    forgotten when a call begins.
    """

    def __init__(self, path: Path, known: Path | None = None) -> None:
        """`known` is another report's file, taken over if it exists and `path` doesn't."""
        self.path = path
        self._parts: dict[str, Any] = {"curve": []}
        for source in (path, known):
            if source is not None and source.exists():
                self._parts = json.loads(source.read_text())
                break

    def begin(self, identities: Sequence[str]) -> None:
        """Before parts of candidates of these identities are put."""
        of = key_of(FORMAT, list(identities))
        if self._parts.get("of") != of:
            self._parts = {"curve": []}
        self.put(of=of)

    def put(self, **parts: Any) -> None:
        self._parts |= parts
        content = json.dumps(self._parts) + "\n"
        Folder.at(self.path.parent).write(self.path.name, content.encode())

    def put_point(self, point: dict[str, Any]) -> None:
        """One size of the set, which is its `fraction`."""
        others = [p for p in self._parts["curve"] if p["fraction"] != point["fraction"]]
        self.put(curve=sorted([*others, point], key=lambda p: p["fraction"]))

    def figures(self, default: float, passes: float) -> dict[str, Any]:
        """All parts, the figures of the size nearest to `default` on top.

        `passes`: row visits of a distillation over the log's rows. Empty if there is no point.
        """
        points: Sequence[dict[str, Any]] = self._parts["curve"]
        if not points:
            return {}
        top = min(points, key=lambda p: abs(p["fraction"] - default))
        return top | self._parts | {"crossover": crossover(points, top["fraction"], passes)}
