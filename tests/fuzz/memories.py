"""Readers of distilled sets, of the evolving memory, and of the driver's state in it."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from diet_ray.distillation.proxy import Proxies
from diet_ray.distillation.retention import RowSample
from diet_ray.distillation.stream import StageRecord, StreamState
from diet_ray.memory.dataset import DistilledDataset
from diet_ray.memory.publish import publish
from diet_ray.memory.slots import apply_changes, slot_schema
from diet_ray.memory.snapshot import read_committed
from diet_ray.memory.store import MemoryStore
from diet_ray.memory.update import Commit, Update, unpack
from diet_ray.memory.write_ahead_log import scan
from diet_ray.storage import Folder
from tests.fuzz import arrow_values
from tests.fuzz.reader import SEALED, Reader, check_config, files
from tests.memory.small_memory import Driver, click_schema, make_slots
from tests.memory.test_dataset import description
from tests.models.rows import FEATURES, candidate, random_batch


def _make_set(folder: Path) -> None:
    raw = folder / "raw" / "vocabulary"
    raw.mkdir(parents=True)
    for name in ("user", "item"):
        ids = np.arange(2, 50, dtype=np.int32)
        values = [f"{name}{i}" for i in ids]
        pq.write_table(
            pa.table({"value": values, "id": ids, "count": ids.astype(np.int64)}),
            raw / f"{name}.parquet",
        )
    publish(folder / "set", make_slots(30), description(), vocabulary=raw)
    for path in raw.iterdir():
        path.unlink()
    raw.rmdir()
    raw.parent.rmdir()


@functools.cache
def _real_set(path: str) -> DistilledDataset:
    return DistilledDataset.load(path)


def _read_set(folder: Path, real: Path) -> None:
    dataset = DistilledDataset.load(folder / "set")
    check_config((dataset.recipe, dataset.features))
    batch = dataset.batch()
    assert len(batch) == dataset.num_slots
    assert bool(torch.isfinite(dataset.targets()).all())
    assert bool(torch.isfinite(dataset.weights).all())
    dataset.to_pandas(decode=True)
    assert dataset.row_fraction > 0
    assert 0 <= dataset.byte_fraction < math.inf
    dataset.recipe.batch_size_of(512)
    manifest = (folder / "set" / "manifest.json").read_bytes()
    if manifest == (real / "set" / "manifest.json").read_bytes():
        assert dataset.slots.equals(_real_set(str(real / "set")).slots)


def _seal_set(folder: Path, name: str) -> None:
    path = folder / "set" / "manifest.json"
    if name.endswith("manifest.json"):
        return
    manifest = json.loads(path.read_bytes())
    content = (folder / name).read_bytes()
    record = {"num_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["files"][name.removeprefix("set/")] = record
    path.write_text(json.dumps(manifest))


def _make_memory(folder: Path) -> None:
    store = MemoryStore(folder / "memory", click_schema())
    Driver(num_stages=2).run(store)
    position = store.begin("second")
    for sequence in range(3):
        update = Driver.update(store.slots(), position.epoch, 2, sequence, position.next_slot)
        store.apply(update)
    store.close()
    (folder / "memory" / "lock").unlink(missing_ok=True)


@functools.cache
def _real_states(path: str) -> list[pa.Table]:
    """The slots after each update of the open stage, that of the last commit first."""
    committed = read_committed(Folder.at(Path(path) / "memory"))
    assert committed is not None
    slots = committed[1]
    found = [slots]
    layout = slot_schema(click_schema())
    content = b"".join(p.read_bytes() for p in sorted((Path(path) / "memory/log").iterdir()))
    for payload in scan(content, "log")[0]:
        message = unpack(payload)
        if message.kind == "update":
            update = Update.from_message(message, layout)
            assert update.added is not None
            assert update.changed is not None
            slots = apply_changes(slots, update.added, update.changed, update.removed)
            found.append(slots.combine_chunks())
    return found


def _read_memory(folder: Path, real: Path) -> None:
    committed = read_committed(Folder.at(folder / "memory"))
    store = MemoryStore(folder / "memory")
    try:
        slots = store.slots()
        changed = [
            p.relative_to(folder)
            for p in sorted((folder / "memory").rglob("*"))
            if p.is_file()
            and (real / p.relative_to(folder)).exists()
            and p.name.endswith((".json", ".parquet"))
            and p.read_bytes() != (real / p.relative_to(folder)).read_bytes()
        ]
        if not changed and not (folder / SEALED).exists():
            assert any(slots.equals(state) for state in _real_states(str(real)))
        position = store.begin("after")
        store.last_commit()
        stage = 0 if position.committed_stage is None else position.committed_stage + 1
        store.commit(Commit(epoch=position.epoch, stage=stage, sequence=0, state={}))
        assert committed is None or committed[1].num_rows == committed[0].num_slots
    finally:
        store.close()


def _seal_memory(folder: Path, name: str) -> None:
    (folder / SEALED).touch()
    path = folder / name
    if name.endswith(".log"):
        content = path.read_bytes()
        header = struct.Struct("<4sQI")
        place, found = 0, []
        while place + header.size + 4 <= len(content):
            _, length, _ = header.unpack_from(content, place)
            payload = content[place + header.size + 4 :][:length]
            new = header.pack(b"DWAL", len(payload), zlib.crc32(payload))
            found.append(new + struct.pack("<I", zlib.crc32(new)) + payload)
            place += header.size + 4 + max(1, len(payload))
        path.write_bytes(b"".join(found))
        return
    commit = path.parent / "commit.json"
    if path.name == "commit.json" or not commit.exists():
        return
    document = json.loads(commit.read_bytes())
    content = path.read_bytes()
    document["files"][path.name] = [len(content), hashlib.sha256(content).hexdigest()]
    commit.write_text(json.dumps(document))


def small_proxies() -> Proxies:
    return Proxies((candidate("dnn", hidden_sizes=(4,), embedding_size=2),), FEATURES, 0)


def _make_stream(folder: Path) -> None:
    batch = random_batch(6)
    state = StreamState(proxies=small_proxies(), gradient_norm=0.5, seconds=2.0)
    state.retained = RowSample(torch.arange(6), batch)
    state.records = [
        StageRecord(
            stage=0,
            rows=6,
            rows_seen=6,
            slots=2,
            proposed=2,
            addressed=0,
            fused=0,
            refinement_accepted=False,
            refinement_loss_before=None,
            refinement_loss_after=None,
            mean_influence=0.5,
            progressive_log_loss=0.7,
            bytes_received=100,
        )
    ]
    for name, content in state.blobs().items():
        (folder / name).write_bytes(content)


def _read_stream(folder: Path, _: Path) -> None:
    blobs = {p.name: p.read_bytes() for p in files(folder)}
    state = StreamState.from_blobs(small_proxies(), blobs)
    assert math.isfinite(state.gradient_norm)
    assert state.rows_seen >= 0
    assert math.isfinite(state.seconds)


READERS = (
    Reader(name="set", make=_make_set, read=_read_set, weight=8,
           changes=arrow_values.change_parquet, seal=_seal_set),
    Reader(name="memory", make=_make_memory, read=_read_memory, weight=8,
           changes=arrow_values.change_parquet, seal=_seal_memory),
    Reader(name="stream", make=_make_stream, read=_read_stream, weight=6),
)  # fmt: skip
