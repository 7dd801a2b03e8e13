from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diet_ray.data.raw.start import START_BYTES, start_of
from diet_ray.errors import DataError


def test_header_quotes_blanks_and_marks(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes('\ufeffa, "b,c",d \r\n1,2,3\r\n'.encode())
    start = start_of(str(path))
    assert start.header == ("a", "b,c", "d")
    assert start.fields(1) == ("1", "2", "3")
    assert start.fields(7) == ()


def test_encodings(tmp_path: Path) -> None:
    for encoding, text, expected in (
        ("utf8", "连衣裙é", "utf8"),
        ("gb18030", "连衣裙", "gb18030"),
        ("latin-1", "Les Misé", "latin-1"),
    ):
        (tmp_path / "x").write_bytes(f"{text}\n".encode(encoding))
        start = start_of(str(tmp_path / "x"))
        assert start.encoding == expected
        assert start.lines == (text,)


def test_compression_and_kind_are_told_by_content(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n"))
    assert start_of(str(path)).compression == "gzip"
    assert start_of(str(path)).header == ("a", "b")
    pq.write_table(pa.table({"p": [1]}), path)
    assert start_of(str(path)).parquet_columns == ("p",)


def test_a_line_that_is_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("a\n" + "b" * START_BYTES)
    assert start_of(str(path)).lines == ("a",)


def test_what_holds_no_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b" \n")
    with pytest.raises(DataError, match="x: is empty"):
        start_of(str(path))
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a"), io.BytesIO())
    with pytest.raises(DataError, match="is a tar archive; unpack it first"):
        start_of(str(tmp_path / "x.tar.gz"))
    with pytest.raises(DataError, match="no such file"):
        start_of(str(tmp_path / "none"))
