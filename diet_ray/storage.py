"""Folders on any filesystem that pyarrow reaches, with writes that are whole or not there at all.

A `Folder` is a filesystem and a path; names inside it are relative, with `/` between parts. A write
goes to a temporary name, is synced, and takes its final name by a rename, so that a crash at any
byte leaves the old content or the new. Object stores publish an object when its upload ends, which
is nearly the same promise, so there it is written in place: an upload that fails midway may leave
the beginning of the content, so whoever reads must check it. Elsewhere than on a local disk, what
was written counts once the filesystem gives its size back. What only a local disk can do (appending
with a sync, locking) asks `is_local` first.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from diet_ray.errors import DataError, OutputError
from diet_ray.parquet import decoding, read_whole

_OBJECT_STORES = {"s3", "gcs", "abfs"}
_TEMPORARY = ".tmp-"
_LIST_ATTEMPTS = 5


def absolute(location: str | Path) -> str:
    """A local path from the root, a URI as it is: what a process in another folder can open."""
    return str(location) if "://" in str(location) else os.path.abspath(location)


@dataclass(frozen=True)
class Folder:
    """A folder on a filesystem. Cheap to copy and to pickle; creating one touches nothing."""

    filesystem: pafs.FileSystem
    path: str
    top: str = field(default="", compare=False)
    """The folder that this one was reached from, if it wasn't by itself: a file is durable once the
    names of all folders between are."""

    @classmethod
    def at(cls, location: str | Path | Folder) -> Folder:
        """The folder at a local path or a URI such as `s3://bucket/memory`.

        Raises `OutputError` for a URI that pyarrow doesn't know.
        """
        if isinstance(location, Folder):
            return location
        if "://" in str(location):
            try:
                filesystem, path = pafs.FileSystem.from_uri(str(location))
            except (OSError, ValueError, TypeError) as e:
                raise OutputError(f"{location}: not a folder that can be reached: {e}") from None
            return cls(filesystem, path)
        return cls(pafs.LocalFileSystem(), absolute(location))

    def __truediv__(self, name: str) -> Folder:
        return Folder(self.filesystem, self.path_of(name), self.top or self.path)

    def __str__(self) -> str:
        scheme = self.filesystem.type_name
        return self.path if scheme in ("local", "subtree") else f"{scheme}://{self.path}"

    @property
    def is_local(self) -> bool:
        """Whether files can be appended to, synced and locked by the operating system."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def path_of(self, name: str) -> str:
        """The full path of `name`. Raises `DataError` if it would lie outside the folder."""
        parts = PurePosixPath(name)
        if not name or parts.is_absolute() or ".." in parts.parts or "\0" in name:
            raise DataError(f"{self}: `{name}` is no name inside this folder")
        return f"{self.path}/{name}" if self.path else name

    @property
    def is_object_store(self) -> bool:
        """Whether an object appears when its upload ends, and can't be renamed."""
        return self.filesystem.type_name.removeprefix("py::") in _OBJECT_STORES

    def exists(self, name: str = "") -> bool:
        """Raises `OutputError` if the storage can't be asked."""
        path = self.path_of(name) if name else self.path
        with self._reached():
            return bool(self.filesystem.get_file_info(path).type != pafs.FileType.NotFound)

    def names(self) -> list[str]:
        """Names of files and folders directly inside, sorted; none if the folder is missing.

        Raises `OutputError` if the storage can't be asked.
        """
        found = [info.base_name for info in self._list()]
        return sorted(name for name in found if not name.startswith(_TEMPORARY))

    def _list(self) -> list[pafs.FileInfo]:
        selector = pafs.FileSelector(self.path, allow_not_found=True)
        with self._reached():
            for _ in range(_LIST_ATTEMPTS - 1):
                # Something may be removed between its listing and a look at it.
                with contextlib.suppress(FileNotFoundError):
                    return list(self.filesystem.get_file_info(selector))
            return list(self.filesystem.get_file_info(selector))

    def size(self, name: str) -> int:
        """Bytes of a file. Raises `FileNotFoundError`, or `OutputError` as `names` does."""
        with self._reached():
            info = self.filesystem.get_file_info(self.path_of(name))
        if info.type != pafs.FileType.File:
            raise FileNotFoundError(f"{self}/{name}")
        return int(info.size)

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise OutputError(f"{self}: the storage can't be reached: {_reason(e)}") from None

    def read(self, name: str) -> bytes:
        """The whole content of a file. Raises `FileNotFoundError` or another `OSError`."""
        with self.filesystem.open_input_stream(self.path_of(name), compression=None) as stream:
            return bytes(stream.read())

    def find(self, name: str) -> bytes | None:
        """The whole content of a file, None if there is none.

        Raises `OutputError` if the storage can't be asked, which says nothing about the file.
        """
        with self._reached():
            try:
                return self.read(name)
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Makes `content` the file's whole content, durably and at once.

        Creates missing folders. Raises `OutputError` naming the file; the old content then stands.
        """
        self.write_all({name: content})

    def write_new(self, name: str, content: bytes | memoryview) -> None:
        """As `write`, for a name that has no content yet: after a failure it has none still.

        An object store may keep the beginning of an upload that failed.
        """
        try:
            self.write(name, content)
        except OutputError:
            if self.is_object_store:
                _delete_quietly(self.filesystem, self.path_of(name))
            raise

    def write_all(self, files: dict[str, bytes | memoryview]) -> None:
        """Writes each file as `write` does, in order, and syncs each folder once at the end."""
        touched: dict[str, None] = {}
        for name, content in files.items():
            target = self.path_of(name)
            parent = target.rpartition("/")[0]
            try:
                self._write(target, parent, content)
            except OSError as e:
                raise OutputError(f"{self}/{name}: can't be written: {_reason(e)}") from None
            touched[parent] = None
        if self.is_local:
            for parent in touched:
                Folder(self.filesystem, parent, self.top or self.path).sync()

    def sync(self) -> None:
        """On a local disk, makes the names in the folder durable, and its own; it must exist.

        Files are synced before they get their names. What somebody else wrote may have a name that
        a crash of the machine would forget: a sync that failed, or that never came.
        """
        if self.is_local:
            try:
                _sync_folder(self.path, self.top or self.path)
            except OSError as e:
                raise OutputError(f"{self.path}: can't be synced: {_reason(e)}") from None

    def _write(self, target: str, parent: str, content: bytes | memoryview) -> None:
        if parent:
            self.filesystem.create_dir(parent, recursive=True)
        if self.is_object_store:
            self._put(target, content)
            return
        temporary = f"{parent}/{_TEMPORARY}{uuid.uuid4().hex}"
        try:
            self._put(temporary, content)
            if self.is_local:
                _sync_file(temporary)
            self.filesystem.move(temporary, target)
        except BaseException:
            _delete_quietly(self.filesystem, temporary)
            raise

    def _put(self, path: str, content: bytes | memoryview) -> None:
        with self.filesystem.open_output_stream(path, compression=None) as stream:
            stream.write(content)
        if not self.is_local:
            num_bytes = self.filesystem.get_file_info(path).size
            if num_bytes != memoryview(content).nbytes:
                raise OSError(
                    f"the storage holds {num_bytes} of {memoryview(content).nbytes} bytes"
                )

    def delete(self, name: str) -> None:
        """Removes a file or a folder with all it holds; nothing happens if it is missing."""
        path = self.path_of(name)
        try:
            info = self.filesystem.get_file_info(path)
            if info.type == pafs.FileType.Directory:
                self.filesystem.delete_dir(path)
            elif info.type != pafs.FileType.NotFound:
                self.filesystem.delete_file(path)
        except FileNotFoundError:
            return
        except OSError as e:
            raise OutputError(f"{self}/{name}: can't be removed: {_reason(e)}") from None

    def delete_temporaries(self) -> None:
        """Removes what a killed writer left behind. Only for the folder's single owner."""
        for info in self._list():
            if info.base_name.startswith(_TEMPORARY):
                _delete_quietly(self.filesystem, info.path)

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """A Parquet file as a table. Raises `DataError` naming the file."""
        where = f"{self}/{name}"
        try:
            content = self.read(name)
        except FileNotFoundError:
            raise DataError(f"{where}: no such file") from None
        except OSError as e:
            raise DataError(f"{where}: can't be read: {_reason(e)}") from None
        with decoding(where, DataError):
            return table_from_parquet(content, columns)

    def write_table(self, name: str, table: pa.Table) -> None:
        """Writes a table as Parquet, as `write` does."""
        self.write(name, parquet_from_table(table))


class AppendFile:
    """A local file that grows at its end; every append is on the disk when it returns.

    After an append that failed, the file is cut back to what it held; if that fails too, it is
    `broken` and takes no more.
    """

    def __init__(self, path: str) -> None:
        """Opens an existing file. Raises `OSError`."""
        self.path = path
        self.broken = False
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self.num_bytes = os.fstat(self._descriptor).st_size

    def append(self, parts: Iterable[bytes | memoryview]) -> None:
        """Raises `OutputError` naming the file; then none of the parts is in it."""
        if self.broken:
            raise OutputError(f"{self.path}: an earlier write failed: open the memory again")
        num_bytes = self.num_bytes
        try:
            for part in parts:
                view = memoryview(part)
                while view:
                    view = view[os.write(self._descriptor, view) :]
                num_bytes += memoryview(part).nbytes
            os.fdatasync(self._descriptor)
        except OSError as e:
            self._cut_back()
            raise OutputError(f"{self.path}: can't be written: {_reason(e)}") from None
        self.num_bytes = num_bytes

    def truncate(self, num_bytes: int) -> None:
        """Cuts the file after `num_bytes`, durably. Raises `OutputError` naming the file."""
        try:
            os.ftruncate(self._descriptor, num_bytes)
            os.fsync(self._descriptor)
        except OSError as e:
            raise OutputError(f"{self.path}: can't be cut: {_reason(e)}") from None
        self.num_bytes = num_bytes

    def _cut_back(self) -> None:
        # A sync that failed once may have dropped the pages it couldn't write, so what the file
        # holds is known again only after it was cut and synced.
        try:
            self.truncate(self.num_bytes)
        except OutputError:
            self.broken = True

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class LockFile:
    """A lock that one process holds on a local file, which says who holds it.

    The operating system keeps it, so it ends with its process however that ends: there are no
    stale locks to clean up, and the file may stay where it is.
    """

    def __init__(self, path: str, owner: str) -> None:
        """Takes the lock. Raises `BlockingIOError`, whose text says who holds it."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self._file: IO[str] = open(path, "a+", encoding="utf-8")  # noqa: SIM115
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read(200).strip() or "another process"
            self._file.close()
            raise BlockingIOError(holder) from None
        self._file.truncate(0)
        self._file.write(owner + "\n")
        self._file.flush()

    def release(self) -> None:
        """May be called again."""
        self._file.close()


def sha256(content: bytes | memoryview) -> str:
    """Hex digest of a file's content."""
    return hashlib.sha256(content).hexdigest()


def parquet_from_table(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file; equal tables give equal bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", compression_level=1, write_page_checksum=True)
    return sink.getvalue()


def table_from_parquet(content: bytes, columns: list[str] | None = None) -> pa.Table:
    """The table in the bytes of a Parquet file, on the calling thread. Raises `ArrowInvalid`."""
    return read_whole(content, columns)


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def _sync_file(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: str, top: str) -> None:
    """Makes the names in `folder` durable, and those of the folders from it up to above `top`."""
    above = os.path.dirname(top)
    while True:
        if folder in (above, "/", ""):
            # It may be one that we may enter and not list: then it was there before.
            with contextlib.suppress(PermissionError):
                _sync_file(folder)
            return
        _sync_file(folder)
        folder = os.path.dirname(folder)


def _delete_quietly(filesystem: pafs.FileSystem, path: str) -> None:
    with contextlib.suppress(OSError):
        filesystem.delete_file(path)
