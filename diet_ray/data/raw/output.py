"""Schema and configuration of a prepared log as files that people read and edit."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

from diet_ray.data.raw.log import RawLog
from diet_ray.data.schema import Field, Schema

STAGE_ROWS = 1_000_000


def write_configuration(
    folder: Path, log: RawLog, num_rows: int, num_test_rows: int, about: str
) -> None:
    """`schema.yaml`, with what is known about the log above it, and `distill.yaml` beside it."""
    comment = [*about.strip().splitlines(), *(f"Note: {n}" for n in log.notes)]
    (folder / "schema.yaml").write_text(schema_text(log.schema, comment), encoding="utf-8")
    text = distill_text(
        paths=["log"],
        by=log.stages,
        rows=min(STAGE_ROWS, max(1, num_rows // 8)),
        test_fraction=tail_fraction(num_rows, num_test_rows),
        sort=False,
    )
    (folder / "distill.yaml").write_text(text, encoding="utf-8")


def tail_fraction(num_rows: int, num_test_rows: int) -> str:
    """A decimal with as few digits as make exactly `num_test_rows` of `num_rows`."""
    for digits in range(1, 18):
        text = f"{num_test_rows / num_rows:.{digits}f}"
        if round(num_rows * Fraction(text)) == num_test_rows:
            return text
    raise ValueError(f"no decimal makes {num_test_rows} of {num_rows}")


def schema_text(
    schema: Schema, comment: Iterable[str], remarks: dict[str, str] | None = None
) -> str:
    """A schema file. remarks: what stands behind a field, `timestamp` or `label`, as a comment."""
    remarks = remarks or {}
    time = schema.timestamp
    lines = [f"# {line}".rstrip() for line in comment]
    lines.append(
        _with_remark(
            f"timestamp: {{column: {_quoted(time.column)}, unit: {time.unit}, "
            f"timezone: {time.timezone}}}",
            remarks.get("timestamp"),
        )
    )
    lines.append(
        _with_remark(f"label: {{column: {_quoted(schema.label.column)}}}", remarks.get("label"))
    )
    lines.append("fields:")
    lines += [_with_remark(f"  - {{{_field(f)}}}", remarks.get(f.name)) for f in schema.fields]
    return "\n".join(lines) + "\n"


def distill_text(
    *,
    paths: list[str],
    by: str,
    rows: int,
    test_fraction: str,
    sort: bool,
    source: Iterable[str] = (),
) -> str:
    """A configuration for `diet distill`. source: further lines of that section."""
    listed = ", ".join(_quoted(p) for p in paths)
    stages = "by: day" if by == "day" else f"by: rows\n  rows: {rows}"
    more = "".join(f"\n  {line}" for line in (*source, *(["sort: true"] if sort else [])))
    return textwrap.dedent("""\
        # Paths are relative to this file. Distil with: diet distill --config distill.yaml
        schema: schema.yaml
        source:
          paths: [{listed}]{more}
        stages:
          {stages}
          test_fraction: {test_fraction}   # the last rows by time: nothing learns from them
        budget:
          effort: medium           # 1 % of the rows; low 0.5 %, high 6.7 %
        seed: 0
        """).format(listed=listed, more=more, stages=stages, test_fraction=test_fraction)


def _field(field: Field) -> str:
    parts = [f"name: {_quoted(field.name)}", f"kind: {field.kind}"]
    defaults = {f.name: f.default for f in fields(Field)}
    for name in (
        "column", "min_count", "hash_buckets", "separator", "history_of", "user", "max_length",
    ):  # fmt: skip
        value = getattr(field, name)
        if value != defaults[name]:
            parts.append(f"{name}: {_quoted(value) if isinstance(value, str) else value}")
    return ", ".join(parts)


def _quoted(text: str) -> str:
    """As a YAML scalar inside a flow mapping: bare where nothing can be mistaken."""
    plain = text.replace("_", "a").replace(".", "a").replace("/", "a").replace("-", "a")
    words = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
    if plain.isalnum() and plain.isascii() and plain[0].isalpha() and text.lower() not in words:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _with_remark(line: str, remark: str | None) -> str:
    return f"{line}  # {remark}" if remark else line
