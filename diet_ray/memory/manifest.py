"""`manifest.json`: what a distilled dataset is, where it came from, and what its files hold."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from diet_ray.config import from_mapping, to_mapping
from diet_ray.data.batch import FeatureSpec
from diet_ray.data.schema import Schema
from diet_ray.documents import parse_json, shown
from diet_ray.errors import ConfigError, DistilledSetError
from diet_ray.training.recipe import Recipe

FORMAT_VERSION = 3
READABLE_VERSIONS = (2, FORMAT_VERSION)
"""2 shipped every value of a vocabulary, 3 ships those that occur in the slots."""
NAME = "manifest.json"
SLOTS = "memory.parquet"
VOCABULARY = "vocabulary/"
CODEBOOKS = "codebooks/"
EMBEDDINGS = "embeddings/"


@dataclass(frozen=True, kw_only=True)
class Description:
    """What the driver knows of a distilled dataset besides its files."""

    schema: Schema
    features: FeatureSpec
    """Fields and id counts that a candidate is built for."""
    recipe: Recipe
    proxies: tuple[dict[str, Any], ...]
    """The candidates that gave the soft labels, as their configurations."""
    budget: dict[str, Any]
    source_fingerprint: str
    """Of the prepared log that it was distilled from."""
    num_rows_seen: int
    """Rows of the log that it stands for."""
    source_bytes: int
    """Bytes of those rows as the prepared log holds them."""
    stages: tuple[dict[str, Any], ...] = ()
    """A record a stage: rows, slots, bytes, scores."""
    details: dict[str, Any] = field(default_factory=dict)
    """More that is worth knowing, such as seconds; nothing depends on it."""


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ByteAccount:
    """Bytes on disk of all that a candidate needs to be trained on the set."""

    slots: int
    vocabularies: int
    codebooks: int
    embeddings: int

    @property
    def total(self) -> int:
        return self.slots + self.vocabularies + self.codebooks + self.embeddings


@dataclass(frozen=True, kw_only=True)
class Manifest(Description):
    """The whole of `manifest.json` but its format version."""

    num_slots: int
    total_weight: float
    files: dict[str, FileRecord]
    """Every other file of the set by its name in the folder."""
    num_bytes: ByteAccount
    code_version: str = ""
    """Of the program that wrote the set."""

    def to_bytes(self) -> bytes:
        content = {"format_version": FORMAT_VERSION} | to_mapping(self)
        return json.dumps(content, indent=1).encode()

    @classmethod
    def from_bytes(cls, content: bytes, where: str) -> Manifest:
        """Raises `DistilledSetError` naming the file and key."""
        mapping = parse_json(content, where, DistilledSetError)
        version = mapping.pop("format_version", None)
        if version is None:
            raise DistilledSetError(
                f"{where}: no manifest of a distilled dataset: no format_version"
            )
        if version not in READABLE_VERSIONS:
            readable = " and ".join(map(str, READABLE_VERSIONS))
            raise DistilledSetError(
                f"{where}: format version {shown(version)}, this program reads {readable}: use the "
                "version that wrote it, or distil again"
            )
        try:
            return from_mapping(cls, mapping, where)
        except ConfigError as e:
            raise DistilledSetError(f"{e}") from None


def account(files: dict[str, FileRecord]) -> ByteAccount:
    """Bytes by what they hold."""

    def below(prefix: str) -> int:
        return sum(f.num_bytes for name, f in files.items() if name.startswith(prefix))

    return ByteAccount(
        slots=below(SLOTS),
        vocabularies=below(VOCABULARY),
        codebooks=below(CODEBOOKS),
        embeddings=below(EMBEDDINGS),
    )
