from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diet_ray.data.raw import chunks
from diet_ray.data.raw.chunks import cut_files
from diet_ray.data.raw.formats import JsonLines, TextFormat
from diet_ray.data.raw.start import start_of
from diet_ray.errors import DataError

TEXT = TextFormat(columns=("a", "b"), types={"a": pa.int64(), "b": pa.string()}, header=True)


def read(path: Path, text: TextFormat, chunk_bytes: int) -> list[tuple[int, str]]:
    parts = cut_files([(start_of(str(path)), text)], chunk_bytes)
    tables = [t for p in parts for t in p.read()]
    return [(r["a"], r["b"]) for t in tables for r in t.to_pylist()]


@given(
    texts=st.lists(st.text("xyz", min_size=1, max_size=9), max_size=12),
    chunk_bytes=st.integers(1, 60),
    line_end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
)
def test_every_line_is_read_once_wherever_files_are_cut(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    chunk_bytes: int,
    line_end: str,
    last: bool,
) -> None:
    path = tmp_path_factory.mktemp("cut") / "x.csv"
    lines = ["a,b", *(f"{i},{t}" for i, t in enumerate(texts))]
    path.write_bytes((line_end.join(lines) + (line_end if last else "")).encode())
    assert read(path, TEXT, chunk_bytes) == list(enumerate(texts))


def test_compressed_files_are_read_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 50)
    path = tmp_path / "x"
    rows = [f"{i},{'v' * (i % 13)}-" for i in range(200)]
    path.write_bytes(gzip.compress("\n".join(["a,b", *rows]).encode()))
    (part,) = cut_files([(start_of(str(path)), TEXT)], 50)
    tables = list(part.read())
    assert len(tables) > 10
    assert [r["a"] for t in tables for r in t.to_pylist()] == list(range(200))


def test_a_byte_order_mark_and_a_wide_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\xef\xbb\xbf1::x y\n2::z\n")
    wide = TextFormat(columns=TEXT.columns, types=TEXT.types, delimiter="::")
    assert read(path, wide, 7) == [(1, "x y"), (2, "z")]


def test_json_lines_that_are_none_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": 1}\n{"a": \n')
    (part,) = cut_files([(start_of(str(path)), JsonLines(types={"a": pa.int64()}))])
    with pytest.raises(DataError, match=r"x\.json: after byte 0: .*mend or drop the line"):
        list(part.read())


def test_text_that_cannot_be_decoded_in_its_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a,b\n1,\xff\xfe\n")
    with pytest.raises(DataError, match="x: after byte 0"):
        read(path, TEXT, 100)
