"""All public logs, and which of them a folder's files are of."""

from __future__ import annotations

from collections.abc import Sequence

from diet_ray.data.raw.start import Start, start_of
from diet_ray.data.sources.files import expand
from diet_ray.data.sources.public import (
    amazon,
    avazu,
    criteo,
    kuairand,
    movielens,
    taobao_ads,
    taobao_behavior,
    tmall,
)
from diet_ray.data.sources.public.adapter import Adapter, Files
from diet_ray.documents import suggestion
from diet_ray.errors import ConfigError, DataError

ADAPTERS = {
    module.ADAPTER.name: module.ADAPTER
    for module in (
        kuairand, taobao_behavior, taobao_ads, tmall, criteo, avazu, movielens, amazon,
    )
}  # fmt: skip


def adapter(name: str, others: Sequence[str] = ()) -> Adapter:
    """By name; `others` are further names that would have been right. Raises `ConfigError`."""
    if name in ADAPTERS:
        return ADAPTERS[name]
    known = [*ADAPTERS, *others]
    raise ConfigError(f"no source `{name}`; {suggestion(name, known, cutoff=0.4)}")


def starts_of(path: str) -> list[Start]:
    """The beginnings of all files that a path stands for; archives and empty files are left out
    where there are others."""
    starts: list[Start] = []
    refused: list[DataError] = []
    for file in expand([path], ("",)):
        try:
            starts.append(start_of(file))
        except DataError as e:
            refused.append(e)
    if not starts:
        raise refused[0]
    return starts


def sort_files(chosen: Adapter, starts: Sequence[Start]) -> tuple[Files, tuple[str, ...]]:
    """The files that an adapter recognises by role, and what to say about the others.

    Raises `DataError` if none of them holds events.
    """
    files: dict[str, list[Start]] = {}
    remarks: list[str] = []
    for start in starts:
        role = chosen.recognise(start)
        if role is None:
            remarks.append(f"{start.file}: isn't of {chosen.name}; left out")
        elif role.unused is not None:
            remarks.append(f"{start.file}: {role.name}, not read: {role.unused}")
        else:
            files.setdefault(role.name, []).append(start)
    if not any(name == "log" or name.startswith("log ") for name in files):
        raise DataError(_no_log(chosen, starts))
    return files, tuple(remarks)


def recognise(starts: Sequence[Start]) -> Adapter:
    """The one log that the files are of. Raises `DataError` if there is none, or more."""
    found = [a for a in ADAPTERS.values() if any(_is_log(a, s) for s in starts)]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"files of {', '.join(a.name for a in found)}; name one as the source")
    raise DataError(
        f"{starts[0].file}: not a log that is known; `diet prepare --infer FILE` proposes a schema "
        "for any CSV or Parquet file"
    )


def _no_log(chosen: Adapter, starts: Sequence[Start]) -> str:
    for start in starts:
        role = chosen.recognise(start)
        if role is not None and role.unused is not None:
            return f"{start.file}: {role.name}: {role.unused}"
    for start in starts:
        for other in ADAPTERS.values():
            if _is_log(other, start):
                return f"{start.file}: is of {other.name}, not of {chosen.name}"
    first = "".join(starts[0].lines[:1])[:80] or ", ".join(starts[0].parquet_columns or ())[:80]
    return f"{starts[0].file}: holds no events of {chosen.name}; it begins with {first!r}"


def _is_log(candidate: Adapter, start: Start) -> bool:
    role = candidate.recognise(start) if start.kind == "text" else None
    return role is not None and (role.name == "log" or role.name.startswith("log "))
