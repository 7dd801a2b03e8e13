"""Every reader of files: the real files that it reads, and what reading broken ones may lead to.

`read` may raise a `DietError`, or return; what it then checks by `assert` is what makes a result a
correct one. A file that a checksum guards must be refused or read as what it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import io
import json
import math
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import torch
from rich.console import Console

from diet_ray import cli
from diet_ray.data.encoding import Encoder, to_batch
from diet_ray.data.log import PreparedLog
from diet_ray.data.prepare import append, prepare
from diet_ray.data.rows import LABEL, TIMESTAMP
from diet_ray.data.schema import Schema
from diet_ray.data.sources.base import read_serially
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.sources.csv import CsvSource
from diet_ray.data.sources.kuairand import KuaiRandSource
from diet_ray.data.sources.parquet import ParquetSource
from diet_ray.data.stages import StageConfig
from diet_ray.distillation.config import load_distill_config
from diet_ray.distillation.proxy import Proxies
from diet_ray.distillation.retention import RowSample
from diet_ray.distillation.run import RunFolder, load_run_config
from diet_ray.distillation.stream import StageRecord, StreamState
from diet_ray.errors import ConfigError
from diet_ray.memory.dataset import DistilledDataset
from diet_ray.memory.publish import publish
from diet_ray.memory.snapshot import read_committed
from diet_ray.memory.store import MemoryStore
from diet_ray.memory.update import Commit, Update
from diet_ray.models.catalogue import Candidate
from diet_ray.report.document import load_consistency
from diet_ray.report.page import render
from diet_ray.report.tables import print_summary
from diet_ray.scoring import score_log as score_log_module
from diet_ray.scoring.checkpoint import Checkpoint
from diet_ray.scoring.shard_file import read_summary
from diet_ray.scoring.tables import print_scored
from diet_ray.search.anchors import load_anchors
from diet_ray.search.evaluation import Evaluation
from diet_ray.search.proposals import Proposals
from diet_ray.search.records import Records, TrialResult
from diet_ray.search.run_set import DistilledRows
from diet_ray.search.runs import RunResult, TrainingRows
from diet_ray.storage import Folder
from diet_ray.training import train_run
from diet_ray.training.checkpoints import Checkpoints, TrainState
from diet_ray.training.full_runs import read_result, write_result
from diet_ray.training.recipe import Recipe
from tests.data.click_log import SCHEMA, click_rows, write_log
from tests.fuzz import arrow_values, mutations
from tests.memory.small_memory import Driver, click_schema, make_slots
from tests.memory.test_dataset import description
from tests.models.rows import FEATURES, candidate, random_batch
from tests.report.conftest import make_consistency, make_manifest
from tests.scoring.test_shard_file import write as write_scores

EXAMPLES = Path(__file__).parents[2] / "examples"


CHANGED, SEALED = ".changed", ".sealed"
"""Marks in a folder: a file was rewritten, not damaged; checksums were made right again."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    name: str
    make: Callable[[Path], None]
    """Writes the real files into a folder."""
    read: Callable[[Path, Path], None]
    """(folder, folder of the real files): reads the folder's files."""
    weight: float
    alone: bool = False
    """Each file is read by itself, so the others need not be there."""
    changes: Callable[[bytes, random.Random], bytes] | None = None
    """A change that leaves a file well-formed, beside damage to its bytes."""
    seal: Callable[[Path, str], None] | None = None
    """Makes the checksums that guard a file in the folder right again, as an attacker would."""


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _quiet() -> Console:
    return Console(file=io.StringIO(), width=80)


def _check_config(value: Any) -> None:
    """Numbers in a configuration are finite and fit in 64 bits."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            _check_config(getattr(value, field.name))
    elif isinstance(value, tuple | list):
        for item in value:
            _check_config(item)
    elif isinstance(value, float):
        assert math.isfinite(value)
    elif isinstance(value, int):
        assert -(2**63) <= value < 2**63
    elif isinstance(value, str):
        value.encode()
        assert "\0" not in value


# Configurations.


def _make_schema(folder: Path) -> None:
    for name in ("kuairand", "movielens", "synthetic"):
        (folder / f"{name}.yaml").write_bytes((EXAMPLES / name / "schema.yaml").read_bytes())


def _read_schema(folder: Path, _: Path) -> None:
    for path in _files(folder):
        schema = Schema.load(path)
        _check_config(schema)
        assert schema.columns
        with contextlib.suppress(MemoryError):
            Encoder(dataclasses.replace(schema, fields=tuple(_small(f) for f in schema.fields)))


def _small(field: Any) -> Any:
    return dataclasses.replace(field, hash_buckets=min(field.hash_buckets, 100))


_FULL_CONFIG = b"""
schema: schema.yaml
source: {format: csv, paths: [log.csv], sort: true, delimiter: ";", column_names: [a, b]}
stages: {by: rows, rows: 5000, test_fraction: 0.1, shard_rows: 4096}
budget: {slots: 500, boundary_factor: 1.5}
proxies:
  - {name: a, architecture: deepfm, hidden_sizes: [8, 4], dropout: 0.1, batch_size: 64}
held_out_factor: 1.0
influence: {num_scorers: 2, score: full, defensive_share: 0.5, sketch_buckets: 64, batch_size: 99}
addressing: {}
refinement: {outer_steps: 3, outer_learning_rate: 1e-2, window: 2}
fusion: {policy: merge}
retained_rows: 10
seed: 3
"""


def _make_distill(folder: Path) -> None:
    _make_schema(folder)
    (folder / "schema.yaml").write_bytes((folder / "kuairand.yaml").read_bytes())
    (folder / "distill.yaml").write_bytes((EXAMPLES / "kuairand" / "distill.yaml").read_bytes())
    (folder / "full.yaml").write_bytes(_FULL_CONFIG)


def _read_distill(folder: Path, _: Path) -> None:
    for name in ("distill.yaml", "full.yaml"):
        config = load_distill_config(folder / name)
        _check_config(config)
        for rows in (0, 1, 1000):
            assert 0 <= config.budget.capacity(rows) <= rows
        assert 0 <= config.budget.proposed(500, 100) <= 100


_CANDIDATES = {
    "list.yaml": b"candidates:\n- {architecture: lr, batch_size: 256}\n"
    b"- {name: deep, architecture: dnn, hidden_sizes: [8], learning_rate: 1e-3}\n",
    "grid.yaml": b"candidates:\n  grid: {architecture: [fm, dcnv2], embedding_size: [4, 8], "
    b"hidden_sizes: [[8], [8, 4]]}\n",
    "random.yaml": b"candidates:\n  random: {num_samples: 4, seed: 0, architecture: [fm, lr],\n"
    b"    learning_rate: {low: 1e-4, high: 1e-2, log: true}, embedding_size: {low: 2, high: 8}}\n",
    "optuna.yaml": b"candidates:\n  optuna: {num_samples: 4, seed: 0, architecture: [fm, lr],\n"
    b"    learning_rate: {low: 1e-4, high: 1e-2, log: true}, hidden_sizes: [[8], [4, 4]]}\n",
    "default.yaml": b"candidates: default\n",
}


def _make_candidates(folder: Path) -> None:
    for name, content in _CANDIDATES.items():
        (folder / name).write_bytes(content)


def _read_candidates(folder: Path, _: Path) -> None:
    for path in _files(folder):
        found = cli._candidates(path, searched=True)
        if isinstance(found, Proposals):
            assert found.num_samples >= 1
            found.tune_space()
            continue
        names = [c.name for c in found]
        assert 0 < len(names) == len(set(names)) <= 10_000
        for each in found:
            _check_config(each)


def _make_run_config(folder: Path) -> None:
    _make_distill(folder)
    config = load_distill_config(folder / "full.yaml")
    from diet_ray.config import to_mapping

    for path in folder.iterdir():
        path.unlink()
    (folder / "distill.json").write_text(json.dumps(to_mapping(config), indent=1))


def _read_run_config(folder: Path, _: Path) -> None:
    _check_config(load_run_config(RunFolder(folder)))


@functools.cache
def _known() -> tuple[Candidate, ...]:
    return tuple(
        Candidate(name=r["name"], architecture="lr") for r in make_consistency()["candidates"]
    )


def _make_anchors(folder: Path) -> None:
    names = [c.name for c in _known()]
    lines = f"anchors: {{{names[0]}: 0.7, {names[1]}: [0.71, 0.72], {names[2]}: 0.69}}\n"
    (folder / "anchors.yaml").write_text(lines)
    (folder / "consistency.json").write_text(json.dumps(make_consistency()))


def _read_anchors(folder: Path, _: Path) -> None:
    for path in _files(folder):
        found = load_anchors(path, _known())
        assert len(found) >= 3
        assert all(0 < auc < 1 for auc in found.values())


# Logs as they arrive.


def _check_rows(tables: Iterator[pa.Table], schema: Schema) -> None:
    """Rows that encode to what a model can take."""
    encoder = Encoder(schema)
    coded = []
    for table in tables:
        table.validate(full=True)
        label, time = table[LABEL].to_numpy(), table[TIMESTAMP].to_numpy()
        assert np.isin(label, (0.0, 1.0)).all()
        assert (np.abs(time) < 2**58).all()
        for field in schema.of_kind("numeric"):
            assert not np.isinf(table[field.name].to_numpy()).any()
        # What comes next refuses rows out of order.
        order = np.argsort(time, kind="stable")
        coded.append(encoder.code(table.take(pa.array(order)), learn=True))
    encoder.end_stage(learn=True)
    for batch in coded:
        if batch.num_rows and not encoder.histories:
            rows = encoder.encode(
                batch, first_row=0, stage_offset=0, stage_rows=max(1, batch.num_rows)
            )
            numeric = [rows[f.name].to_numpy() for f in schema.of_kind("numeric")]
            assert all(np.isfinite(values).all() for values in numeric)


def _without_history(schema: Schema) -> Schema:
    return dataclasses.replace(
        schema, fields=tuple(f for f in schema.fields if f.history_of is None)
    )


def _make_parquet(folder: Path) -> None:
    write_log(folder, click_rows(90), cuts=(60,))


def _read_parquet(folder: Path, _: Path) -> None:
    source = ParquetSource.open(SourceConfig(paths=(str(folder),)), SCHEMA)
    with contextlib.closing(read_serially(source)) as tables:
        _check_rows(tables, _without_history(SCHEMA))


def _click_csv() -> bytes:
    rows = click_rows(60)
    tags = ["|".join(t) for t in rows["tags"].to_pylist()]
    rows = rows.set_column(rows.column_names.index("tags"), "tags", pa.array(tags))
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(rows, sink)
    return sink.getvalue().to_pybytes()


def _make_csv(folder: Path) -> None:
    (folder / "a.csv").write_bytes(_click_csv())
    (folder / "b.csv.gz").write_bytes(gzip.compress(_click_csv(), mtime=0))


def _read_csv(folder: Path, _: Path) -> None:
    source = CsvSource.open(SourceConfig(paths=(str(folder),)), SCHEMA)
    with contextlib.closing(read_serially(source)) as tables:
        _check_rows(tables, _without_history(SCHEMA))


def _make_kuairand(folder: Path) -> None:
    lines = ["user_id,video_id,hourmin,time_ms,long_view"]
    lines += [f"{i % 5},{i % 7},{i % 24},{1_650_000_000_000 + i},{i % 2}" for i in range(40)]
    (folder / "log_standard_x.csv").write_text("\n".join(lines) + "\n")
    users = ["user_id,degree"] + [f"{i},high" for i in range(5)]
    (folder / "user_features_x.csv").write_text("\n".join(users) + "\n")
    videos = ["video_id,duration_ms,tag"] + [f"{i},{100 * i},1" for i in range(7)]
    (folder / "video_features_basic_x.csv").write_text("\n".join(videos) + "\n")


def _read_kuairand(folder: Path, _: Path) -> None:
    schema = Schema.load(EXAMPLES / "kuairand" / "schema.yaml")
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    source = KuaiRandSource.open(SourceConfig(paths=(str(folder),)), schema, scratch)
    with contextlib.closing(read_serially(source)) as tables:
        _check_rows(tables, _without_history(schema))


# What this program has written.


def _serial() -> Any:
    return mock.patch("diet_ray.data.prepare.read_in_order", read_serially)


def _make_log(folder: Path) -> None:
    paths = write_log(folder / "raw", click_rows(240, days=3))
    stages = StageConfig(shard_rows=50)
    with _serial():
        prepare(SourceConfig(paths=paths), SCHEMA, stages, folder / "log")
    for path in (folder / "raw").iterdir():
        path.unlink()
    (folder / "raw").rmdir()


@functools.cache
def _shards(path: str) -> dict[int, pa.Table]:
    log = PreparedLog.open(path)
    return {s.index: log.read_shard(s) for stage in log.stages for s in stage.shards}


def _read_log(folder: Path, real: Path) -> None:
    log = PreparedLog.open(str(folder / "log"))
    manifest = (folder / "log" / "log.json").read_bytes()
    same = manifest == (real / "log" / "log.json").read_bytes()
    same = same and not (folder / CHANGED).exists()
    features = log.features
    for stage in log.stages:
        for shard in stage.shards:
            table = log.read_shard(shard)
            if same:
                assert table.equals(_shards(str(real / "log"))[shard.index])
            batch = to_batch(table, features)
            assert bool(torch.isfinite(batch.numeric).all())
            for i, num_ids in enumerate(features.num_ids):
                assert int(batch.categorical[:, i].max()) < max(
                    num_ids, max(log.stages[-1].num_ids.values())
                )


def _read_update(folder: Path, _: Path) -> None:
    later = click_rows(60, days=1, seed=1)
    time = pa.array(later["time"].to_numpy() + 30 * 86_400)
    later = later.set_column(0, "time", time)
    paths = write_log(folder / "new", later)
    with _serial():
        log = append(PreparedLog.open(str(folder / "log")), SourceConfig(paths=paths))
    for stage in log.stages[-1:]:
        for shard in stage.shards:
            log.read_shard(shard)


def _make_set(folder: Path) -> None:
    raw = folder / "raw" / "vocabulary"
    raw.mkdir(parents=True)
    import pyarrow.parquet as pq

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
    _check_config((dataset.recipe, dataset.features))
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
    from diet_ray.memory.slots import apply_changes, slot_schema
    from diet_ray.memory.update import unpack
    from diet_ray.memory.write_ahead_log import scan

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
            found.append(new + struct.pack("<I", zlib.crc32(new)) + _resealed(payload))
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


def _resealed(payload: bytes) -> bytes:
    return payload


_STREAM_FEATURES = FEATURES


def _stream_proxies() -> Proxies:
    return Proxies((candidate("dnn", hidden_sizes=(4,), embedding_size=2),), FEATURES, 0)


def _make_stream(folder: Path) -> None:
    batch = random_batch(6)
    state = StreamState(proxies=_stream_proxies(), gradient_norm=0.5, seconds=2.0)
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
    blobs = {p.name: p.read_bytes() for p in _files(folder)}
    state = StreamState.from_blobs(_stream_proxies(), blobs)
    assert math.isfinite(state.gradient_norm)
    assert state.rows_seen >= 0
    assert math.isfinite(state.seconds)


def _make_checkpoint(folder: Path) -> None:
    from tests.scoring.test_checkpoint import trained

    saved = Checkpoint.of_proxy(trained("dnn"), "proxy")
    saved.save(folder / "own.safetensors")
    import safetensors.torch

    bare = {k: v.contiguous() for k, v in saved.weights.items()}
    (folder / "bare.safetensors").write_bytes(safetensors.torch.save(bare))
    torch.save(dict(saved.weights), folder / "bare.pt")


def _read_checkpoint(folder: Path, _: Path) -> None:
    for path in _files(folder):
        given = None if path.name.startswith("own") else candidate("dnn", batch_size=16)
        found = Checkpoint.load(path, FEATURES, given)
        model = found.model(FEATURES)
        found.moments_for(model)
        assert bool(torch.isfinite(model(random_batch(3))).all())


_TRAINED = {"candidate": {}, "seed": 0, "log": "abc", "log_path": "x", "config": {"epochs": 1}}


def _make_training(folder: Path) -> None:
    checkpoints = Checkpoints(Folder.at(folder / "checkpoints"))
    proxies = _stream_proxies()
    for row in (10, 20):
        state = TrainState(row=row, num_rows=row, num_steps=row, seconds=1.0, losses=(0.7,))
        checkpoints.save(state, proxies.lead.state())
    from diet_ray.config import to_mapping
    from diet_ray.training.config import TrainConfig

    result = train_run.TrainResult(
        candidate=_known()[0],
        seed=0,
        log="abc",
        config=TrainConfig(),
        num_workers=1,
        device="cpu",
        num_rows=10,
        num_steps=2,
        num_epochs=1,
        seconds=1.0,
        rows_per_s=10.0,
        validation_auc=(0.6,),
        best_epoch=1,
        evaluation=_run_result().evaluation,
        num_evaluation_rows=10,
        loss_curve=((1.0, 0.7),),
    )
    (folder / "train.json").write_text(json.dumps(to_mapping(result)))
    (folder / "run.json").write_text(json.dumps(_TRAINED))


def _read_training(folder: Path, _: Path) -> None:
    from diet_ray.parquet import decoding

    checkpoints = Checkpoints(Folder.at(folder / "checkpoints"))
    name = checkpoints.newest()
    if name is not None:
        state, tensors = checkpoints.load(name)
        assert state.row >= 0
        with decoding(name, ConfigError):
            _stream_proxies().lead.load_state(tensors)
    train_run._claim(Folder.at(folder), _TRAINED)
    result = train_run._read_result(Folder.at(folder))
    train_run.print_trained(result, folder, _quiet())


# Results.


def _run_result() -> RunResult:
    evaluation = Evaluation(
        auc=0.7, logloss=0.6, regret_auc=0.71, regret_logloss=0.61, block_auc=(0.7, None)
    )
    return RunResult(
        name="finalmlp-16",
        seed=0,
        evaluation=evaluation,
        train_seconds=1.0,
        evaluation_seconds=0.5,
        row_visits=100.0,
        num_steps=4,
        curve=((64, 0.7), (100, 0.65)),
        cpu_seconds=1.4,
    )


def _check_result(found: RunResult) -> None:
    assert 0 <= found.evaluation.auc <= 1
    assert isinstance(found.evaluation.logloss, float)
    assert 0 <= found.seconds < math.inf
    assert all(isinstance(rows, int) and isinstance(loss, float) for rows, loss in found.curve)


def _make_full_runs(folder: Path) -> None:
    write_result(Folder.at(folder), "abc.json", _run_result())


def _read_full_runs(folder: Path, _: Path) -> None:
    found = read_result(Folder.at(folder), "abc.json")
    if found is not None:
        _check_result(found)


def _records(folder: Path) -> Records:
    batch = random_batch(4)
    ones = torch.ones(4)
    from diet_ray.search.evaluation import EvaluationRows

    rows = DistilledRows(
        train=TrainingRows(batch, ones, ones),
        features=FEATURES,
        recipe=Recipe(),
        evaluation=EvaluationRows(batch, 2),
    )
    return Records(folder, rows, {"seeds": [0]})


def _make_records(folder: Path) -> None:
    records = _records(folder)
    for each in _distinct():
        run = dataclasses.replace(_run_result(), name=each.name)
        records.add(TrialResult(candidate=each, runs=(run,), num_reports=1), 3.0)


@functools.cache
def _distinct() -> tuple[Candidate, ...]:
    return tuple(
        Candidate(name=f"lr-{size}", architecture="lr", batch_size=size) for size in (8, 16, 32)
    )


def _read_records(folder: Path, _: Path) -> None:
    records = _records(folder)
    for trial in (*records.finished(), *(records.known(c) for c in _distinct())):
        if trial is not None:
            assert trial.mean_auc is None or 0 <= trial.mean_auc <= 1
            for run in trial.runs:
                _check_result(run)
    assert 0 <= records.seconds(_distinct()) < math.inf


def _make_report(folder: Path) -> None:
    (folder / "consistency.json").write_text(json.dumps(make_consistency()))


def _read_report(folder: Path, _: Path) -> None:
    content = load_consistency(folder / "consistency.json")
    print_summary(content, _quiet())


def _read_page(folder: Path, _: Path) -> None:
    content = load_consistency(folder / "consistency.json")
    page = render(content, make_manifest())
    page.encode()
    assert "<script" not in page.lower()


def _make_scores(folder: Path) -> None:
    log = _score_log()
    scores = Folder.at(folder / "scores")
    for shard in log.stages[0].shards:
        write_scores(log, scores, shard)
    about = {"log": "abc", "scores": ["loss"]}
    (folder / "score.json").write_text(json.dumps(about))
    row = {
        "row": 1, "score": 0.5, "time": "2022-04-08 16:00:00", "label": 1.0, "fields": {"user": "a"}
    }  # fmt: skip
    lists = {"helpful": [row], "harmful": []}
    (folder / "summary.json").write_text(json.dumps({"num_rows": 2, "lists": lists}))


@functools.cache
def _score_log() -> PreparedLog:
    import tempfile

    from tests.distillation.small_log import small_log

    return small_log(Path(tempfile.mkdtemp(prefix="fuzz-")) / "log", num_stages=2, shard_rows=9)


def _read_scores(folder: Path, _: Path) -> None:
    scores = Folder.at(folder / "scores")
    found = [read_summary(scores, s) for s in _score_log().stages[0].shards]
    total = found[0].merged(found[1], 5)
    about = {"log": "abc", "scores": ["loss"]}
    score_log_module._claim(Folder.at(folder), about)
    scored = score_log_module.ScoredLog(
        path=folder, summary=total, num_rows=1, skipped=(), seconds=1.0
    )
    print_scored(scored, _quiet())


READERS = (
    Reader(name="schema", make=_make_schema, read=_read_schema, weight=10, alone=True,
           changes=mutations.change_yaml),
    Reader(name="distill", make=_make_distill, read=_read_distill, weight=5,
           changes=mutations.change_yaml),
    Reader(name="candidates", make=_make_candidates, read=_read_candidates, weight=8, alone=True,
           changes=mutations.change_yaml),
    Reader(name="run_config", make=_make_run_config, read=_read_run_config, weight=8,
           changes=mutations.change_json),
    Reader(name="anchors", make=_make_anchors, read=_read_anchors, weight=6, alone=True,
           changes=mutations.change_yaml),
    Reader(name="parquet", make=_make_parquet, read=_read_parquet, weight=14,
           changes=arrow_values.change_parquet),
    Reader(name="csv", make=_make_csv, read=_read_csv, weight=14, alone=True),
    Reader(name="kuairand", make=_make_kuairand, read=_read_kuairand, weight=4),
    Reader(name="log", make=_make_log, read=_read_log, weight=8,
           changes=arrow_values.change_parquet),
    Reader(name="update", make=_make_log, read=_read_update, weight=2,
           changes=arrow_values.change_parquet),
    Reader(name="set", make=_make_set, read=_read_set, weight=8,
           changes=arrow_values.change_parquet, seal=_seal_set),
    Reader(name="memory", make=_make_memory, read=_read_memory, weight=8,
           changes=arrow_values.change_parquet, seal=_seal_memory),
    Reader(name="stream", make=_make_stream, read=_read_stream, weight=6),
    Reader(name="checkpoint", make=_make_checkpoint, read=_read_checkpoint, weight=4, alone=True),
    Reader(name="training", make=_make_training, read=_read_training, weight=5),
    Reader(name="full_runs", make=_make_full_runs, read=_read_full_runs, weight=8),
    Reader(name="records", make=_make_records, read=_read_records, weight=5,
           changes=mutations.change_lines),
    Reader(name="report", make=_make_report, read=_read_report, weight=5),
    # Draws a dozen plots.
    Reader(name="page", make=_make_report, read=_read_page, weight=0.15),
    Reader(name="scores", make=_make_scores, read=_read_scores, weight=5,
           changes=arrow_values.change_parquet),
)  # fmt: skip
