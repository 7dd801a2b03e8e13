"""What can befall a file: damage to its bytes, and values that no writer would have put there.

All draws come from the `random.Random` that is handed in, so a case is its seed.
"""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable
from typing import Any

import yaml

_LENGTHS = (0, 1, 0x7F, 0xFF, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
_TEXTS = (
    b"\0",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xc3",
    b'"',
    b"\n",
    b"\r",
    b",,,,",
    b"nan",
    b"-inf",
    b"1e999",
    b"9" * 40,
    b"9" * 5000,
    b"[" * 3000,
    b'{"a":' * 500,
    b"!!python/object/apply:os.getcwd []",
    b"!!timestamp 2001-99-99",
    b"!!binary x",
    b"&a [*a, *a]",
    b"<<: *a",
    b"\xef\xbb\xbf",
    b"\x1b[2J",
)


def damage(content: bytes, draw: random.Random) -> bytes:
    """One to four damages to bytes."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        content = draw.choice(_DAMAGES)(content, draw)
    return content


def _flip(content: bytes, draw: random.Random) -> bytes:
    found = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8))):
        if found:
            found[draw.randrange(len(found))] ^= 1 << draw.randrange(8)
    return bytes(found)


def _overwrite(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content) + 1)
    new = draw.randbytes(draw.choice((1, 2, 4, 16)))
    return content[:place] + new + content[place + len(new) :]


def _length(content: bytes, draw: random.Random) -> bytes:
    """Where a count or a length may stand, a huge or an odd one."""
    place = draw.choice((0, 4, 8, len(content) - 8, draw.randrange(len(content) + 1)))
    place = max(0, place)
    number = draw.choice(_LENGTHS)
    new = struct.pack("<Q", number) if draw.random() < 0.5 else struct.pack("<I", number % 2**32)
    return content[:place] + new + content[place + len(new) :]


def _truncate(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _cut_out(content: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(content) + 1)
    return content[:start] + content[start + draw.choice((1, 3, 8, 200)) :]


def _splice(content: bytes, draw: random.Random) -> bytes:
    start, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    place = draw.randrange(len(content) + 1)
    return content[:place] + content[start:end][:4096] + content[place:]


def _text(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content) + 1)
    return content[:place] + draw.choice(_TEXTS) + content[place:]


def _append(content: bytes, draw: random.Random) -> bytes:
    return content + draw.choice((content[-200:], draw.randbytes(20), draw.choice(_TEXTS)))


def _swap_lines(content: bytes, draw: random.Random) -> bytes:
    lines = content.split(b"\n")
    i, j = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return b"\n".join(lines)


_DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip,
    _flip,
    _overwrite,
    _length,
    _truncate,
    _cut_out,
    _splice,
    _text,
    _append,
    _swap_lines,
)


def nest(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found]
    return found


def hostile_value(draw: random.Random) -> Any:
    """A value that has no business where it is put."""
    return draw.choice(
        (
            None,
            True,
            "",
            "x",
            "\0",
            "a\x1b[2Jb",
            "../../etc/passwd",
            "/",
            "os:system",
            ":",
            ".:x",
            "\ud800",
            "NaN",
            "y" * 100_000,
            -1,
            0,
            1,
            2**31,
            2**63,
            2**64,
            10**400,
            -(10**30),
            1e308,
            5e-324,
            float("nan"),
            float("inf"),
            -0.5,
            [],
            [[]],
            {},
            {"": ""},
            [0] * 1000,
            [1e300] * 3,
            ["x"] * 40,
            [10**6] * 20,
            lambda: nest(draw.choice((10, 60, 300))),
        )
    )


def change_value(root: Any, draw: random.Random) -> Any:
    """A copy of a JSON-like document with one to three places changed."""
    root = copy.deepcopy(root)
    for _ in range(draw.choice((1, 1, 2, 3))):
        places = list(_places(root))
        if not places:
            value = hostile_value(draw)
            return value() if callable(value) else value
        holder, key = draw.choice(places)
        match draw.randrange(6):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                name = draw.choice((f"{key}x", key.upper(), "", "\ud800", "k" * 5000))
                holder[name] = holder.pop(key)
            case 2:
                other, other_key = draw.choice(places)
                holder[key] = copy.deepcopy(other[other_key])
            case 3 if isinstance(holder[key], int | float) and abs(holder[key]) < 2**70:
                holder[key] = draw.choice((-1, 2, 0.5, 1e9)) * holder[key] + draw.choice((-1, 0, 1))
            case 4 if isinstance(holder, list):
                holder *= draw.choice((0, 2, 50))
            case _:
                value = hostile_value(draw)
                holder[key] = value() if callable(value) else value
    return root


def _places(root: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    open_nodes = [root] if isinstance(root, dict | list) else []
    while open_nodes and len(found) < 3000:
        node = open_nodes.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node))
        for key in keys:
            found.append((node, key))
            if isinstance(node[key], dict | list):
                open_nodes.append(node[key])
    return found


def change_json(content: bytes, draw: random.Random) -> bytes:
    changed = json.dumps(change_value(json.loads(content), draw))
    if draw.random() < 0.05:
        # The first key a second time.
        changed = changed.replace("{", '{"format_version": 1, ', 1)
    return changed.encode()


def change_lines(content: bytes, draw: random.Random) -> bytes:
    """Of a file that holds a JSON document in each line."""
    lines = content.splitlines()
    i = draw.randrange(len(lines))
    lines[i] = change_json(lines[i], draw)
    return b"\n".join(lines) + b"\n"


def change_yaml(content: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.1:
        return content + yaml_bomb(draw)
    changed = change_value(yaml.safe_load(content), draw)
    try:
        return yaml.safe_dump(changed, sort_keys=False, allow_unicode=True).encode(
            "utf-8", "surrogatepass"
        )
    except (ValueError, yaml.YAMLError, RecursionError):
        return json.dumps(changed).encode()


def yaml_bomb(draw: random.Random) -> bytes:
    """Ten aliases of ten aliases of ..: by lists or by merged mappings."""
    depth = draw.choice((2, 9, 40))
    lines = ["l0: &l0 [x, x, x]"] if draw.random() < 0.5 else ["l0: &l0 {x: 1}"]
    merges = "{" in lines[0]
    for i in range(1, depth):
        aliases = ", ".join([f"*l{i - 1}"] * 10)
        body = f"{{<<: [{aliases}]}}" if merges else f"[{aliases}]"
        lines.append(f"l{i}: &l{i} {body}")
    return "\n".join(["", *lines, ""]).encode()
