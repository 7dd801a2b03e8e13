"""Finding and opening files, on this machine or on any filesystem that pyarrow knows."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Sequence

import pyarrow as pa
from pyarrow import fs

from diet_ray.errors import DataError


def filesystem_of(path: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a path or URI, and the path on it. Raises `DataError`."""
    if "://" not in path:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(path))
    try:
        return fs.FileSystem.from_uri(path)
    except (pa.ArrowException, OSError, ValueError) as e:
        raise DataError(f"{path}: can't be opened: {one_line(e)}") from None


def expand(paths: Sequence[str], suffixes: tuple[str, ...]) -> tuple[str, ...]:
    """The files that paths, folders and globs stand for; folders are searched for `suffixes`.

    Raises `DataError` if one of them stands for nothing.
    """
    files: list[str] = []
    for path in paths:
        found = _expand_one(path, suffixes)
        if not found:
            raise DataError(f"{path}: no such file, and nothing that matches it; check the path")
        files += found
    return tuple(dict.fromkeys(files))


def natural_order(name: str) -> list[tuple[int, int | str]]:
    """A sort key under which `day-2` comes before `day-10`."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(p)) if p.isdigit() else (1, p) for p in parts if p]


def one_line(error: BaseException) -> str:
    """An error's message on one line, without a full stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _expand_one(path: str, suffixes: tuple[str, ...]) -> list[str]:
    system, inner = filesystem_of(path)
    prefix = path[: len(path) - len(inner)] if "://" in path and path.endswith(inner) else None
    try:
        info = system.get_file_info(inner)
        # What is there is meant as it is named, whatever its name.
        if info.type == fs.FileType.NotFound and any(c in inner for c in "*?["):
            head = re.split(r"[*?\[]", inner, maxsplit=1)[0]
            root = head.rsplit("/", 1)[0] or "/"
            found = [f for f in _files(system, root) if _matches(f.split("/"), inner.split("/"))]
        elif info.type == fs.FileType.Directory:
            found = [f for f in _files(system, inner) if f.lower().endswith(suffixes)]
            if not found:
                raise DataError(f"{path}: no {' or '.join(suffixes)} file in this folder")
        else:
            found = [inner] if info.type == fs.FileType.File else []
    except (pa.ArrowException, OSError) as e:
        raise DataError(f"{path}: can't be listed: {one_line(e)}") from None
    if "://" in path:
        scheme = path.split("://", 1)[0]
        found = [f"{prefix}{f}" if prefix is not None else f"{scheme}://{f}" for f in found]
    return sorted(found, key=natural_order)


def _files(system: fs.FileSystem, folder: str) -> list[str]:
    selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
    paths = (i.path for i in system.get_file_info(selector) if i.type == fs.FileType.File)
    start = len(folder.rstrip("/")) + 1
    # Neither what is hidden nor what is left in a hidden folder: copies, logs, unfinished parts.
    return [p for p in paths if not any(c.startswith((".", "_")) for c in p[start:].split("/"))]


def _matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Part by part, so that `*` ends with a folder; `**` stands for any number of folders."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_matches(path[i:], pattern[1:]) for i in range(len(path) + 1))
    return (
        bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and _matches(path[1:], pattern[1:])
    )
