"""Small JSON files that vouch for themselves: a format version, and a checksum of all the rest.

What such a file says of others (sizes, checksums, epochs) is believed only if it is whole. Files of
version 1 had no checksum, and still load.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from diet_ray.documents import parse_json
from diet_ray.errors import DistilledSetError

FORMAT_VERSION = 2
READABLE_VERSIONS = (1, FORMAT_VERSION)


def seal(content: Mapping[str, Any]) -> bytes:
    """The content as a file."""
    document = {"format_version": FORMAT_VERSION} | dict(content)
    return json.dumps(
        document | {"checksum": _checksum(document)}, indent=1, sort_keys=True
    ).encode()


def unseal(file: bytes, where: str, advice: str = "") -> dict[str, Any]:
    """Inverse of `seal`. Raises `DistilledSetError` naming the file `where` and giving `advice`."""
    mend = f"; {advice}" if advice else ""
    try:
        content = parse_json(file, where, DistilledSetError)
    except DistilledSetError as e:
        raise DistilledSetError(f"{e}{mend}") from None
    version = content.pop("format_version", None)
    if version not in READABLE_VERSIONS:
        readable = " and ".join(map(str, READABLE_VERSIONS))
        raise DistilledSetError(
            f"{where}: format version {version}, this program reads {readable}: use the version "
            "that wrote it"
        )
    if version != 1:
        checksum = content.pop("checksum", None)
        if checksum != _checksum({"format_version": version} | content):
            raise DistilledSetError(f"{where}: doesn't match its own checksum{mend}")
    return content


def _checksum(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
