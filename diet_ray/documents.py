"""JSON and YAML from files that anybody may have written or broken.

The one place where what can't be parsed becomes a `DietError` that names the file. Both readers
refuse a key that is given twice (whichever counted, the other would be ignored without a word),
text that no file could hold, and a document deeper or larger than any that this project writes.
YAML is the safe kind (no tag makes an object), and aliases may not multiply what is written.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from diet_ray.errors import DataError, DietError

MAX_YAML_BYTES = 1 << 20
"""A configuration is written by hand."""
MAX_JSON_BYTES = 1 << 28
"""Manifests grow by some hundred bytes a shard."""
MAX_DEPTH = 64
MAX_YAML_NODES = 100_000
"""Of a document as it reads once every alias is replaced by what it stands for."""
MAX_SHOWN = 200
"""Characters of a value, a key or a reason in a message."""


def load_json(path: Path, error: type[DietError] = DataError) -> dict[str, Any]:
    """The mapping in a JSON file. Raises `error` naming the file."""
    return parse_json(read_document(path, error), str(path), error)


def read_document(path: Path, error: type[DietError]) -> bytes:
    """The content of a file. Raises `error` naming it."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except (OSError, ValueError) as e:
        raise error(f"{path}: can't be read: {e}") from None


def parse_json(content: bytes | str, where: str, error: type[DietError]) -> dict[str, Any]:
    """The mapping in a JSON document. Raises `error` naming `where`, and what is wrong."""
    if len(content) > MAX_JSON_BYTES:
        raise error(f"{where}: {len(content)} bytes are more than {MAX_JSON_BYTES}")
    try:
        found = json.loads(content, object_pairs_hook=_unique)
        _check(found, MAX_DEPTH)
    except (ValueError, RecursionError) as e:
        # UnicodeDecodeError and JSONDecodeError are ValueErrors, as is a number too long to read.
        raise error(f"{where}: can't be read as JSON: {_reason(e)}") from None
    if not isinstance(found, dict):
        raise error(f"{where}: expected a JSON object, found {type(found).__name__}")
    return found


def parse_yaml(content: bytes, where: str, error: type[DietError]) -> dict[str, Any]:
    """The mapping in a YAML document. Raises `error` naming `where`, and what is wrong."""
    if len(content) > MAX_YAML_BYTES:
        raise error(f"{where}: {len(content)} bytes are more than {MAX_YAML_BYTES}")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as e:
        raise error(f"{where}: can't be read: {e}") from None
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                _measure(node)
            found = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
        _check(found, MAX_DEPTH)
    except RecursionError:
        raise error(f"{where}: not valid YAML: nested too deeply") from None
    except Exception as e:
        # PyYAML lets whatever its constructors raise through, say for a date of month 13.
        raise error(f"{where}: not valid YAML: {_reason(e)}") from None
    if not isinstance(found, dict):
        raise error(f"{where}: expected `key: value` lines, found {type(found).__name__}")
    return found


def shown(value: object) -> str:
    """A value as a message shows it: its `repr`, cut off if it is long."""
    try:
        return cut(repr(value))
    except ValueError:
        # A whole number with more digits than Python prints.
        return f"a {type(value).__name__} of great length"


def suggestion(name: str, known: Iterable[str], label: str = "known", cutoff: float = 0.5) -> str:
    """For the end of a message on an unknown name: the nearest known one, or else all of them.

    cutoff: how alike the nearest must be, from 0 to 1; see `difflib.get_close_matches`.
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    return f"did you mean `{near[0]}`?" if near else f"{label}: {', '.join(names)}"


def cut(text: str) -> str:
    """Text on one line, cut off if it is long."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_SHOWN else f"{line[:MAX_SHOWN]}…"


class _Loader(yaml.SafeLoader):
    """The safe loader, which refuses a key that is given twice in one mapping.

    PyYAML leaves a merged key beside the one that overrides it, and takes the wrong one of them
    where what was merged into is itself merged. Here a mapping's own keys count, then those of the
    first mapping merged that has them.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._flattened: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if id(node) in self._flattened:
            return
        self._flattened.add(id(node))
        own = [pair for pair in node.value if pair[0].tag != "tag:yaml.org,2002:merge"]
        kept: dict[Hashable, tuple[yaml.Node, yaml.Node]] = {}
        for pair in own:
            key = self._key(pair)
            if key in kept:
                raise ValueError(f"key {shown(key)} is given twice")
            kept[key] = pair
        super().flatten_mapping(node)
        for pair in node.value[: len(node.value) - len(own)]:
            kept.setdefault(self._key(pair), pair)
        node.value = list(kept.values())

    def _key(self, pair: tuple[yaml.Node, yaml.Node]) -> Hashable:
        key = self.construct_object(pair[0], deep=True)
        if not isinstance(key, Hashable):
            raise ValueError(f"key {shown(key)} is no plain value")
        return key


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {shown(twice)} is given twice")
    return found


def _measure(root: yaml.Node) -> None:
    """Raises ValueError if aliases make more of a document than may be, or lead back to it."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        identity = id(node)
        if identity in open_nodes:
            raise ValueError("an alias stands for what it is part of")
        if identity not in sizes:
            open_nodes.add(identity)
            children: list[yaml.Node] = []
            if isinstance(node, yaml.MappingNode):
                children = [part for pair in node.value for part in pair]
            elif isinstance(node, yaml.SequenceNode):
                children = node.value
            sizes[identity] = 1 + sum(size(child) for child in children)
            open_nodes.remove(identity)
        return sizes[identity]

    if size(root) > MAX_YAML_NODES:
        raise ValueError(f"more than {MAX_YAML_NODES} values, aliases counted each time")


def _check(value: Any, depth: int) -> None:
    """Raises ValueError for nesting that is too deep, halves of surrogate pairs, huge numbers."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, int):
        if not -(2**64) < value < 2**64:
            raise ValueError(f"{shown(value)} is too large for a number")
    elif isinstance(value, dict | list):
        if depth == 0:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        for item in value:
            _check(item, depth - 1)
        if isinstance(value, dict):
            for item in value.values():
                _check(item, depth - 1)


def _reason(error: BaseException) -> str:
    return cut(str(error)) or type(error).__name__
