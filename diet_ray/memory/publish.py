"""Writing a distilled dataset so that whoever reads meanwhile sees the old one or the new.

A reader trusts the manifest alone, and a file only if it has the manifest's checksum. Before a file
is replaced, the content that the manifest in force names is kept under `.previous/`; then come the
new files, then the new manifest, and only then `.previous/` goes. So there is at every moment, and
after a crash at any moment, a manifest whose files can all be found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pyarrow as pa

from diet_ray.data.batch import NUM_RESERVED_IDS
from diet_ray.data.encoding import to_batch
from diet_ray.data.known_ids import KnownIds
from diet_ray.errors import DistilledSetError
from diet_ray.memory import manifest as layout
from diet_ray.memory.compact import rounded, smallest_parquet
from diet_ray.memory.manifest import Description, FileRecord, Manifest, account
from diet_ray.memory.slots import canonical, check_slots, slot_schema, to_columns
from diet_ray.storage import Folder, sha256

PREVIOUS = ".previous"
CRASH_POINTS = (
    "publish.before-keep",
    "publish.after-keep",
    "publish.after-file",
    "publish.before-manifest",
    "publish.after-manifest",
    "publish.after-clean",
)
"""Every point at which a crash is tried; `on_crash_point` is called with its name."""


def publish(
    path: str | Path | Folder,
    slots: pa.Table,
    description: Description,
    *,
    vocabulary: str | Path | Folder,
    extra_files: Mapping[str, bytes] | None = None,
    on_crash_point: Callable[[str], None] = lambda name: None,
) -> Manifest:
    """Makes `slots` the distilled dataset in the folder `path`.

    `vocabulary` is the prepared log's folder of that name; `extra_files` go below `codebooks/` or
    `embeddings/`. Slots are written in time order, rounded as `compact` says, and of each
    vocabulary the values that occur in them. Raises `DistilledSetError` if a slot doesn't fit the
    schema or its ids the features, or if the vocabulary is of another log.
    """
    folder = Folder.at(path)
    slots = rounded(canonical(slots, slot_schema(description.schema)))
    check_slots(slots, num_ids(description))
    table = _in_time_order(slots)
    contents = {layout.SLOTS: smallest_parquet(table)}
    known = KnownIds.of(to_batch(table, description.features), description.features)
    contents |= _vocabularies(Folder.at(vocabulary), description, known)
    for name, content in (extra_files or {}).items():
        if not name.startswith((layout.CODEBOOKS, layout.EMBEDDINGS)):
            raise ValueError(f"{name}: extra files go below codebooks/ or embeddings/")
        contents[name] = content
    files = {n: FileRecord(num_bytes=len(c), sha256=sha256(c)) for n, c in contents.items()}
    manifest = Manifest(
        **vars(description),
        num_slots=table.num_rows,
        total_weight=float(table["_weight"].to_numpy().sum()),
        files=files,
        num_bytes=account(files),
        code_version=_code_version(),
    )

    old = _manifest_in_force(folder)
    on_crash_point("publish.before-keep")
    _keep_previous(folder, old, files)
    on_crash_point("publish.after-keep")
    for name, content in contents.items():
        if _read(folder, name, files[name]) is None:
            folder.write(name, content)
            on_crash_point("publish.after-file")
    on_crash_point("publish.before-manifest")
    folder.write(layout.NAME, manifest.to_bytes())
    on_crash_point("publish.after-manifest")
    folder.delete(PREVIOUS)
    for name in set(old.files if old else ()) - set(files):
        folder.delete(name)
    on_crash_point("publish.after-clean")
    return manifest


def num_ids(description: Description) -> dict[str, int]:
    """Ids of every categorical and sequence field, the reserved ones included."""
    features = description.features
    ids = dict(zip(features.categorical, features.num_ids, strict=True))
    return ids | {s.name: s.num_ids for s in features.sequence}


def _in_time_order(slots: pa.Table) -> pa.Table:
    columns = to_columns(slots.select(["_timestamp", "_row", "_slot"]))
    order = np.lexsort((columns["_slot"], columns["_row"], columns["_timestamp"]))
    return slots.take(pa.array(order)).combine_chunks()


def _vocabularies(folder: Folder, description: Description, known: KnownIds) -> dict[str, bytes]:
    """The `known` values of every field that has a vocabulary of its own, in order of ids.

    An id keeps its number, whatever else ships. Raises `DistilledSetError` naming the file that
    doesn't have every id of the features.
    """
    contents = {}
    num = num_ids(description)
    for f in description.schema.fields:
        if f.kind == "numeric" or f.history_of is not None or f.hash_buckets:
            continue
        table = folder.read_table(f"{f.name}.parquet")
        # The log also keeps values that have no id yet, and ids admitted later than the features.
        ids = table["id"].to_numpy()
        admitted = np.sort(ids[(ids >= NUM_RESERVED_IDS) & (ids < num[f.name])])
        if not np.array_equal(admitted, np.arange(NUM_RESERVED_IDS, num[f.name])):
            raise DistilledSetError(
                f"{folder}/{f.name}.parquet: has {admitted.size} values where the features have "
                f"{num[f.name] - NUM_RESERVED_IDS}: it is of another log"
            )
        shipped = np.flatnonzero(np.isin(ids, known.ids(f.name)))
        table = table.take(pa.array(shipped[np.argsort(ids[shipped])])).combine_chunks()
        contents[f"{layout.VOCABULARY}{f.name}.parquet"] = smallest_parquet(table)
    return contents


def _manifest_in_force(folder: Folder) -> Manifest | None:
    """The folder's manifest; None if there is none, or one that this program can't read."""
    try:
        return Manifest.from_bytes(folder.read(layout.NAME), f"{folder}/{layout.NAME}")
    except (FileNotFoundError, DistilledSetError):
        return None


def _keep_previous(folder: Folder, old: Manifest | None, files: Mapping[str, FileRecord]) -> None:
    """Copies what the manifest in force needs and `files` replaces.

    What an earlier publication kept before it was killed stays: the file by its own name may be
    that one's new content.
    """
    for name, record in (old.files if old else {}).items():
        if files.get(name) == record:
            continue
        content = _read(folder, name, record)
        if content is not None:
            folder.write(f"{PREVIOUS}/{name}", content)


def _read(folder: Folder, name: str, record: FileRecord) -> bytes | None:
    """A file's content if it is what `record` says, else None."""
    try:
        if folder.size(name) != record.num_bytes:
            return None
        content = folder.read(name)
    except FileNotFoundError:
        return None
    return content if sha256(content) == record.sha256 else None


def read_verified(folder: Folder, name: str, record: FileRecord) -> bytes | None:
    """The content of a file that a manifest names, wherever a publication has put it."""
    for place in (folder, folder / PREVIOUS):
        content = _read(place, name, record)
        if content is not None:
            return content
    return None


def _code_version() -> str:
    try:
        return version("diet-ray")
    except PackageNotFoundError:
        return ""
