"""A local disk that fails as it is told, and forgets at a power loss what was not synced.

It stands where `diet_ray.storage` calls the operating system. Of a file it knows what the last sync
of it made durable, of a folder which names; at a power loss everything that was changed since is
there or not, each piece by a throw of its own, so that operations are lost and reordered as a disk
with a cache may do it.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.chaos.faults import Crash, Fault

_WHOLE_BYTES = 2048
"""Longer writes are cut."""
Names = dict[str, int | None]
"""Entries of a folder: the inode of a file, None for a folder."""


class Disk:
    def __init__(self, root: Path, faults: Iterable[Fault] = (), seed: int = 0) -> None:
        """`root` is a new folder; its parent takes a second one that keeps inodes alive."""
        self.root = root
        self._links = root.with_name(root.name + ".inodes")
        self._faults = {f.operation: f.kind for f in faults}
        self._draw = np.random.default_rng([seed, 1])
        self._refusal: OSError | None = None
        self._durable_content: dict[int, bytes] = {}
        self._durable_names: dict[Path, Names] = {}
        self.dead = False
        self.num_operations = 0
        self.num_injected = 0
        self.has_lied = False
        root.mkdir(parents=True)
        self._links.mkdir()

    @contextmanager
    def attached(self) -> Iterator[None]:
        """`diet_ray.storage` works on this disk meanwhile."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("diet_ray.storage.os", self)
            yield

    def mend(self) -> None:
        """Space and rights are back, and the next process begins."""
        self._refusal = None
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, descriptor: int, content: memoryview) -> int:
        kind = self._next_fault()
        if kind in ("torn", "crash torn"):
            os.write(descriptor, content[: len(content) * 2 // 3])
            self._fail(kind)
        if kind in ("error", "late"):
            raise OSError(errno.EIO, "Input/output error")
        if kind == "crash":
            self._fail(kind)
        # As a signal or a nearly full disk may cut it; the caller writes the rest.
        part = content[: len(content) // 2] if len(content) > _WHOLE_BYTES else content
        num_bytes = os.write(descriptor, part)
        if kind is not None:
            self._fail(kind)
        return num_bytes

    def fsync(self, descriptor: int) -> None:
        kind = self._next_fault()
        if kind in ("error", "torn", "late"):
            raise OSError(errno.EIO, "Input/output error")
        if kind == "crash":
            self._fail(kind)
        self._remember(descriptor)
        if kind is not None:
            self._fail(kind)

    fdatasync = fsync

    def _fail(self, kind: str) -> None:
        if kind.startswith("crash"):
            self.dead = True
            raise Crash
        raise OSError(errno.EIO, "Input/output error")

    def _next_fault(self) -> str | None:
        if self.dead:
            raise Crash
        self.num_operations += 1
        kind = self._faults.get(self.num_operations)
        self.num_injected += kind is not None
        if kind == "full":
            self._refusal = OSError(errno.ENOSPC, "No space left on device")
        if kind == "denied":
            self._refusal = OSError(errno.EROFS, "Read-only file system")
        if self._refusal is not None:
            raise OSError(self._refusal.errno, self._refusal.strerror)
        return kind

    def _remember(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if not path.is_relative_to(self.root):
            return
        if stat.S_ISDIR(status.st_mode):
            self._durable_names[path] = self._names(path)
        else:
            self._hold(path, status.st_ino)
            self._durable_content[status.st_ino] = path.read_bytes()

    def _names(self, folder: Path) -> Names:
        names: Names = {}
        for entry in os.scandir(folder):
            is_folder = entry.is_dir(follow_symlinks=False)
            names[entry.name] = None if is_folder else entry.inode()
            if not is_folder:
                self._hold(folder / entry.name, entry.inode())
        return names

    def _hold(self, path: Path, inode: int) -> None:
        """A second name, so that no other file gets this inode."""
        link = self._links / str(inode)
        if not link.exists():
            os.link(path, link)

    def lose_power(self) -> None:
        """Leaves what a crash of the machine may leave. No file may be open."""
        survivors = self.root.with_name(self.root.name + ".survivors")
        survivors.mkdir()
        self._survive(self.root, survivors)
        shutil.rmtree(self.root)
        survivors.rename(self.root)
        shutil.rmtree(self._links)
        self._links.mkdir()
        self._durable_content.clear()
        self._durable_names.clear()
        self._settle(self.root)

    def _survive(self, folder: Path, into: Path) -> None:
        durable = self._durable_names.get(folder, {})
        current = self._names(folder) if folder.exists() else {}
        for name in sorted({*durable, *current}):
            versions = [v[name] for v in (durable, current) if name in v]
            exists = (name in durable, name in current)
            if exists != (True, True) and self._draw.random() < 0.5:
                continue
            inode = versions[int(self._draw.integers(len(versions)))]
            if inode is None:
                (into / name).mkdir()
                self._survive(folder / name, into / name)
            else:
                (into / name).write_bytes(self._content(inode))

    def _content(self, inode: int) -> bytes:
        durable = self._durable_content.get(inode, b"")
        current = (self._links / str(inode)).read_bytes()
        if current == durable:
            return current
        end = len(durable) if current.startswith(durable) else 0
        cut = int(self._draw.integers(end, len(current) + 1))
        return (durable, current, current[:cut], current[:cut] + bytes(len(current) - cut))[
            int(self._draw.integers(4))
        ]

    def _settle(self, folder: Path) -> None:
        """What survived is durable."""
        self._durable_names[folder] = self._names(folder)
        for entry in list(os.scandir(folder)):
            if entry.is_dir():
                self._settle(folder / entry.name)
            else:
                self._durable_content[entry.inode()] = Path(entry.path).read_bytes()
