"""Typed configuration: nested mappings (YAML) become frozen dataclasses, strictly.

An unknown key is an error that names the nearest known one; a value of the wrong type is an error
that names its key. The dataclasses live beside what they configure; this module only fills them.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from diet_ray.documents import cut, load_json, parse_yaml, read_document, shown, suggestion
from diet_ray.errors import ConfigError

T = TypeVar("T")
_INT64 = range(-(2**63), 2**63)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML or `.json` file.

    Raises `ConfigError` if it is missing, broken, no mapping, or has a key twice.
    """
    path = Path(path)
    if path.suffix == ".json":
        return load_json(path, ConfigError)
    return parse_yaml(read_document(path, ConfigError), str(path), ConfigError)


def from_mapping(cls: type[T], mapping: Mapping[str, Any], where: str) -> T:
    """Builds the frozen dataclass `cls` from a mapping, recursively.

    `where` names the source for messages, e.g. `distill.yaml: proxy`. Raises `ConfigError` for an
    unknown or missing key, a value of the wrong type, or a `ValueError` of `__post_init__`. Whole
    numbers must fit in 64 bits. NaN and infinity are numbers only where a dataclass says so, as
    `allows_nan: ClassVar[bool] = True`: a check such as `rate <= 0` doesn't catch them.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{where}: expected keys, found {shown(mapping)}")
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, cls)) if f.init}
    hints = _hints(typing.cast(Any, cls))
    allows_nan: bool = getattr(cls, "allows_nan", False)
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        if key not in fields:
            hint = suggestion(cut(str(key)), fields, "known keys")
            raise ConfigError(f"{where}: unknown key `{cut(str(key))}`; {hint}")
        values[key] = _convert(hints[key], value, f"{where}: {key}", allows_nan)
    missing = [
        name
        for name, f in fields.items()
        if name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{where}: missing key `{missing[0]}`")
    try:
        return cls(**values)
    except ValueError as e:
        raise ConfigError(f"{where}: {e}") from None


def to_mapping(config: Any) -> dict[str, Any]:
    """The inverse of `from_mapping`: plain dicts and lists, ready for YAML or JSON."""
    return typing.cast(dict[str, Any], _plain(config))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _convert(hint: Any, value: Any, where: str, allows_nan: bool) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(args, value, where, allows_nan)
    if origin is typing.Literal:
        if any(type(value) is type(a) and value == a for a in args):
            return value
        near = difflib.get_close_matches(cut(str(value)), [str(a) for a in args], n=1, cutoff=0.5)
        hint_text = f"; did you mean `{near[0]}`?" if near else ""
        choices = ", ".join(str(a) for a in args)
        raise ConfigError(f"{where}: {shown(value)} is none of {choices}{hint_text}")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: expected a list, found {shown(value)}")
        if args[-1] is not Ellipsis and len(value) != len(args):
            raise ConfigError(f"{where}: expected {len(args)} values, found {shown(value)}")
        kinds = args if args[-1] is not Ellipsis else args[:1] * len(value)
        return tuple(
            _convert(kind, v, f"{where}[{i}]", allows_nan)
            for i, (kind, v) in enumerate(zip(kinds, value, strict=True))
        )
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected keys, found {shown(value)}")
        return {
            _convert(args[0], k, f"{where}: a key", allows_nan): _convert(
                args[1], v, f"{where}: {cut(str(k))}", allows_nan
            )
            for k, v in value.items()
        }
    if dataclasses.is_dataclass(hint):
        return from_mapping(typing.cast(Any, hint), value, where)
    return _convert_scalar(hint, value, where, allows_nan)


def _convert_union(args: tuple[Any, ...], value: Any, where: str, allows_nan: bool) -> Any:
    if value is None and type(None) in args:
        return None
    options = [a for a in args if a is not type(None)]
    errors = []
    for option in options:
        try:
            return _convert(option, value, where, allows_nan)
        except ConfigError as e:
            errors.append(e)
    raise errors[0]


def _convert_scalar(hint: Any, value: Any, where: str, allows_nan: bool) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        # YAML reads 1e-3 (without a dot) as text.
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = None
        if number is not None:
            if allows_nan or math.isfinite(number):
                return number
            raise ConfigError(f"{where}: expected a finite number, found {shown(value)}")
    if hint is int and isinstance(value, int) and value not in _INT64:
        raise ConfigError(f"{where}: {shown(value)} doesn't fit in 64 bits")
    if hint in (str, Path) and isinstance(value, str):
        if "\0" in value:
            raise ConfigError(f"{where}: {shown(value)} holds a NUL character")
        return hint(value)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    raise ConfigError(f"{where}: expected {names.get(hint, hint)}, found {shown(value)}")
