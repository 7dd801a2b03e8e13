"""Readers that do all that no reader may: the fuzzer must tell on each of them."""

from __future__ import annotations

import os
from pathlib import Path

from diet_ray.errors import DataError
from tests.fuzz.reader import Reader


def _make(folder: Path) -> None:
    (folder / "file").write_bytes(b"real")


def _is_real(folder: Path) -> bool:
    return (folder / "file").read_bytes() == b"real"


def _raise(folder: Path, _: Path) -> None:
    if not _is_real(folder):
        raise ValueError("no DietError")


def _take_nonsense(folder: Path, _: Path) -> None:
    assert _is_real(folder)


def _die(folder: Path, _: Path) -> None:
    if not _is_real(folder):
        os.abort()


def _hang(folder: Path, _: Path) -> None:
    while not _is_real(folder):
        pass


def _eat(folder: Path, _: Path) -> None:
    if not _is_real(folder):
        bytearray(8 << 30)


def _say_nothing(folder: Path, _: Path) -> None:
    if not _is_real(folder):
        raise DataError("")


def _refuse(folder: Path, _: Path) -> None:
    if not _is_real(folder):
        raise DataError("file: is broken")


READERS = tuple(
    Reader(name=name, make=_make, read=read, weight=1)
    for name, read in (
        ("raises", _raise),
        ("takes", _take_nonsense),
        ("dies", _die),
        ("hangs", _hang),
        ("eats", _eat),
        ("silent", _say_nothing),
        ("good", _refuse),
    )
)
