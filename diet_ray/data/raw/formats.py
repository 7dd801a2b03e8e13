"""How the bytes of a raw file become rows: typed columns of delimited text, or of JSON lines."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json

from diet_ray.data.sources.files import one_line
from diet_ray.errors import DataError


class Format(Protocol):
    @property
    def header(self) -> bool:
        """Whether the file's first line is no row."""

    def parse(self, content: bytes, where: str) -> pa.Table:
        """Rows of whole lines. Raises `DataError` beginning with `where`."""


@dataclass(frozen=True, kw_only=True)
class TextFormat:
    columns: tuple[str, ...]
    """All columns of the file, in order."""
    types: Mapping[str, pa.DataType]
    """Of the columns that are read."""
    delimiter: str = ","
    """May be longer than a character, as MovieLens's `::`."""
    header: bool = False
    quoted: bool = False
    """Whether `"` quotes fields. A quoted field holds no line end."""
    encoding: str = "utf8"
    missing: tuple[str, ...] = ("",)
    """Texts that stand for no value."""

    def parse(self, content: bytes, where: str) -> pa.Table:
        delimiter = self.delimiter
        if len(delimiter) > 1:
            delimiter = "\x01"
            content = content.replace(self.delimiter.encode(), b"\x01")
        ragged: list[pa_csv.InvalidRow] = []

        def refuse(row: pa_csv.InvalidRow) -> str:
            ragged.append(row)
            return "error"

        try:
            return pa_csv.read_csv(
                pa.BufferReader(content.removeprefix(codecs.BOM_UTF8)),
                pa_csv.ReadOptions(
                    use_threads=False,
                    block_size=max(1, len(content)),
                    column_names=list(self.columns),
                    encoding=self.encoding,
                ),
                pa_csv.ParseOptions(
                    delimiter=delimiter,
                    quote_char='"' if self.quoted else False,
                    invalid_row_handler=refuse,
                ),
                pa_csv.ConvertOptions(
                    include_columns=list(self.types),
                    column_types=dict(self.types),
                    null_values=list(self.missing),
                    strings_can_be_null=True,
                ),
            )
        except pa.ArrowException as e:
            if ragged:
                row = ragged[0]
                raise DataError(
                    f"{where}: {row.actual_columns} columns where {row.expected_columns} are "
                    f"expected: {row.text[:80]!r}; mend or drop the line"
                ) from None
            raise DataError(f"{where}: {one_line(self._named(e))}; mend or drop the line") from None

    def _named(self, error: pa.ArrowException) -> Exception:
        """Arrow counts columns; people name them."""
        text = str(error)
        for index in range(len(self.columns) - 1, -1, -1):
            text = text.replace(f"In CSV column #{index}:", f"column `{self.columns[index]}`:")
        return ValueError(text)


@dataclass(frozen=True, kw_only=True)
class JsonLines:
    types: Mapping[str, pa.DataType]
    """Of the keys that are read; all others are passed over."""
    header: bool = field(default=False, init=False)

    def parse(self, content: bytes, where: str) -> pa.Table:
        schema = pa.schema(list(self.types.items()))
        try:
            return pa_json.read_json(
                pa.BufferReader(content),
                pa_json.ReadOptions(use_threads=False, block_size=max(1, len(content))),
                pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
            )
        except pa.ArrowException as e:
            raise DataError(f"{where}: {one_line(e)}; mend or drop the line") from None
