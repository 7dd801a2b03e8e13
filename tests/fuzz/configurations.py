"""Readers of what people write: schemas, configurations, candidates, anchors."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

from diet_ray.commands.candidates import read_candidates
from diet_ray.config import to_mapping
from diet_ray.data.encoding import Encoder
from diet_ray.data.schema import Schema
from diet_ray.distillation.config import load_distill_config
from diet_ray.distillation.run import RunFolder, load_run_config
from diet_ray.models.catalogue import Candidate
from diet_ray.search.anchors import load_anchors
from diet_ray.search.proposals import Proposals
from tests.fuzz import mutations
from tests.fuzz.reader import EXAMPLES, Reader, check_config, files
from tests.report.conftest import make_consistency


def _make_schema(folder: Path) -> None:
    for name in ("kuairand", "movielens", "synthetic"):
        (folder / f"{name}.yaml").write_bytes((EXAMPLES / name / "schema.yaml").read_bytes())


def _read_schema(folder: Path, _: Path) -> None:
    for path in files(folder):
        schema = Schema.load(path)
        check_config(schema)
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
        check_config(config)
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
    for path in files(folder):
        found = read_candidates(path, searched=True)
        if isinstance(found, Proposals):
            assert found.num_samples >= 1
            found.tune_space()
            continue
        names = [c.name for c in found]
        assert 0 < len(names) == len(set(names)) <= 10_000
        for each in found:
            check_config(each)


def _make_run_config(folder: Path) -> None:
    _make_distill(folder)
    config = load_distill_config(folder / "full.yaml")
    for path in folder.iterdir():
        path.unlink()
    (folder / "distill.json").write_text(json.dumps(to_mapping(config), indent=1))


def _read_run_config(folder: Path, _: Path) -> None:
    check_config(load_run_config(RunFolder(folder)))


@functools.cache
def known_candidates() -> tuple[Candidate, ...]:
    return tuple(
        Candidate(name=r["name"], architecture="lr") for r in make_consistency()["candidates"]
    )


def _make_anchors(folder: Path) -> None:
    names = [c.name for c in known_candidates()]
    lines = f"anchors: {{{names[0]}: 0.7, {names[1]}: [0.71, 0.72], {names[2]}: 0.69}}\n"
    (folder / "anchors.yaml").write_text(lines)
    (folder / "consistency.json").write_text(json.dumps(make_consistency()))


def _read_anchors(folder: Path, _: Path) -> None:
    for path in files(folder):
        found = load_anchors(path, known_candidates())
        assert len(found) >= 3
        assert all(0 < auc < 1 for auc in found.values())


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
)  # fmt: skip
