"""A pyarrow filesystem that fails and lies as it is told: an object store, or files elsewhere.

It keeps its objects in a local folder. Behind the name `s3` an object appears when its upload ends
and there is no rename; behind any other, files are renamed into place.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from tests.chaos.faults import Crash, Fault

LATE_OPERATIONS = 9
"""A late operation happens after so many others."""


class FaultyStore(pafs.FileSystemHandler):
    def __init__(self, root: Path, name: str, faults: Iterable[Fault] = ()) -> None:
        self._plain = pafs.SubTreeFileSystem(str(root), pafs.LocalFileSystem())
        self._name = name
        faults = list(faults)
        self._faults = {f.operation: f.kind for f in faults if f.kind != "unreadable"}
        self._unreadable = {f.operation for f in faults if f.kind == "unreadable"}
        self._refusal: OSError | None = None
        self._late: list[tuple[int, Callable[[], None]]] = []
        self.dead = False
        """The process that uses the store has died: whatever it still calls does nothing."""
        self.num_operations = 0
        self._num_readings = 0
        self.num_injected = 0
        self.has_lied = False

    def mend(self) -> None:
        """Space and rights are back, and the next process begins."""
        self._refusal = None
        self.dead = False

    def _change(self, what: Callable[[], None]) -> None:
        """Does one thing to the store, or what befalls it."""
        kind = self._next_fault()
        if kind == "error":
            raise OSError(errno.EIO, "Input/output error")
        if kind == "crash":
            self.dead = True
            raise Crash
        if kind == "late":
            self._late.append((self.num_operations + LATE_OPERATIONS, what))
            raise OSError(errno.ETIMEDOUT, "Connection timed out")
        what()
        if kind in ("error after", "torn"):
            raise OSError(errno.ETIMEDOUT, "Connection timed out")
        if kind in ("crash after", "crash torn"):
            self.dead = True
            raise Crash

    def _next_fault(self) -> str | None:
        if self.dead:
            raise Crash
        self.num_operations += 1
        due = [what for when, what in self._late if when <= self.num_operations]
        self._late = [entry for entry in self._late if entry[0] > self.num_operations]
        for what in due:
            what()
        kind = self._faults.get(self.num_operations)
        if kind is not None:
            self.num_injected += 1
        if kind == "full":
            self._refusal = OSError(errno.ENOSPC, "No space left on device")
        if kind == "denied":
            self._refusal = PermissionError(errno.EACCES, "Access Denied")
        if self._refusal is not None:
            raise OSError(self._refusal.errno, self._refusal.strerror)
        return kind

    def put(self, path: str, content: bytes) -> None:
        """The end of an upload."""
        kind = self._faults.get(self.num_operations + 1)
        if self._name == "s3":
            if kind == "crash torn":
                # An upload whose process has died never appears.
                kind = self._faults[self.num_operations + 1] = "crash"
            # One that failed may. Its writer removes it, unless that fails too.
            self.has_lied |= kind in ("torn", "lie")
        if kind in ("torn", "crash torn", "lie"):
            content = content[: len(content) * 2 // 3]
        if kind == "flip" and content:
            flipped = bytearray(content)
            flipped[len(content) // 2] ^= 4
            content = bytes(flipped)
            # A part that is missing is noticed by who has written it.
            self.has_lied = True

        def write() -> None:
            self._plain.create_dir(path.rpartition("/")[0], recursive=True)
            with self._plain.open_output_stream(path) as stream:
                stream.write(content)

        self._change(write)

    def _read(self) -> None:
        if self.dead:
            raise Crash
        self._num_readings += 1
        if self._num_readings in self._unreadable:
            self.num_injected += 1
            raise OSError(errno.EIO, "Input/output error")
        if self._refusal is not None and self._refusal.errno == errno.EACCES:
            raise OSError(errno.EACCES, "Access Denied")

    def get_type_name(self) -> str:
        return self._name

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
        self._read()
        return list(self._plain.get_file_info(paths))

    def get_file_info_selector(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        self._read()
        return list(self._plain.get_file_info(selector))

    def create_dir(self, path: str, recursive: bool) -> None:
        self._plain.create_dir(path, recursive=recursive)

    def delete_dir(self, path: str) -> None:
        def delete() -> None:
            shutil.rmtree(Path(self._plain.base_path) / path, ignore_errors=True)

        self._change(delete)

    def delete_file(self, path: str) -> None:
        def delete() -> None:
            (Path(self._plain.base_path) / path).unlink(missing_ok=True)

        self._change(delete)

    def move(self, src: str, dest: str) -> None:
        def rename() -> None:
            source = Path(self._plain.base_path) / src
            # A late one finds nothing: its writer has cleaned up.
            if source.exists():
                os.replace(source, Path(self._plain.base_path) / dest)

        self._change(rename)

    def open_input_stream(self, path: str) -> pa.NativeFile:
        self._read()
        return self._plain.open_input_stream(path)

    def open_output_stream(self, path: str, metadata: object) -> pa.NativeFile:
        return pa.PythonFile(_Upload(self, path), mode="w")

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        raise NotImplementedError

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError

    def copy_file(self, src: str, dest: str) -> None:
        raise NotImplementedError

    def open_input_file(self, path: str) -> pa.NativeFile:
        raise NotImplementedError

    def open_append_stream(self, path: str, metadata: object) -> pa.NativeFile:
        raise NotImplementedError


class _Upload(io.BytesIO):
    def __init__(self, store: FaultyStore, path: str) -> None:
        super().__init__()
        self._store = store
        self._path = path

    def close(self) -> None:
        if not self.closed:
            content = self.getvalue()
            super().close()
            self._store.put(self._path, content)
