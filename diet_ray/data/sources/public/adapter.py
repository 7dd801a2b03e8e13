"""What every public log's file offers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diet_ray.data.raw.log import Options, RawLog
from diet_ray.data.raw.start import Start


@dataclass(frozen=True, kw_only=True)
class Role:
    """What a recognised file is."""

    name: str
    unused: str | None = None
    """Why it isn't read, and what to give instead if it is all there is."""


Files = Mapping[str, Sequence[Start]]
"""By role, in the natural order of names."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    name: str
    """As `diet prepare` knows it."""
    documentation: str
    """Label, split, features, history, traps and published figures."""
    recognise: Callable[[Start], Role | None]
    """By its beginning; None: not of this log. The events' role is `log`."""
    open: Callable[[Files, Options, Path], RawLog]
    """The path is a folder for temporary files."""

    @property
    def title(self) -> str:
        return self.documentation.strip().splitlines()[0]

    @property
    def about(self) -> str:
        return inspect.cleandoc(self.documentation)
