"""Who may write a memory: one process at a time.

On a local disk, a lock of the operating system: it ends with its process, and no second process
gets it. No such thing is within pyarrow's reach elsewhere (it has neither a lock nor a conditional
put), so there the newest process owns the memory: it writes its mark into `owner`, and everyone
looks whether the mark is still theirs before each write. A write that was under way when the mark
changed can still arrive; the log's names make that harmless.
"""

from __future__ import annotations

import os
import platform
import time
import uuid
from typing import Protocol

from diet_ray.errors import DistilledSetError
from diet_ray.storage import Folder, LockFile

_LOCK_POLL_S = 0.05
_MARK = "owner"


class Ownership(Protocol):
    def check(self) -> None:
        """Raises `DistilledSetError` if another process owns the memory by now."""

    def release(self) -> None:
        """Lets the next owner in."""


def own(folder: Folder, timeout_s: float) -> Ownership:
    """Makes this process the owner. Raises `DistilledSetError` if another one is for longer than
    `timeout_s`, where that can be known."""
    return Lock(folder, timeout_s) if folder.is_local else Mark(folder)


class Lock:
    """Ownership of a folder on a local disk."""

    def __init__(self, folder: Folder, timeout_s: float) -> None:
        path = folder.path_of("lock")
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._lock = LockFile(path, _name())
                return
            except BlockingIOError as e:
                if time.monotonic() >= deadline:
                    raise DistilledSetError(
                        f"{path}: the memory is in use by {e}: wait for it to end, or end it; "
                        "the lock goes with that process"
                    ) from None
                time.sleep(_LOCK_POLL_S)
            except OSError as e:
                raise DistilledSetError(f"{path}: can't be locked: {e.strerror}") from None

    def check(self) -> None:
        """The operating system keeps others out."""

    def release(self) -> None:
        self._lock.release()


class Mark:
    """Ownership of a folder elsewhere: taken from whoever has it."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._mark = f"{_name()} {uuid.uuid4().hex}"
        folder.write(_MARK, self._mark.encode())

    def check(self) -> None:
        found = self._folder.find(_MARK)
        if found != self._mark.encode():
            holder = "nobody" if found is None else found.decode(errors="replace")[:200]
            raise DistilledSetError(
                f"{self._folder}: the memory has been taken over by {holder}: this process must end"
            )

    def release(self) -> None:
        """Nothing to let go of: the next owner takes it."""


def _name() -> str:
    return f"process {os.getpid()} on {platform.node()}"
