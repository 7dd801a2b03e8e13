"""What each part of the method is worth: the shipped default with one thing changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.laboratory.bench import Bench
from benchmarks.laboratory.distilled import REFERENCE_FRACTION, Distilled, default_config, distil
from benchmarks.laboratory.measure import gain
from benchmarks.laboratory.methods import DISTILLED_SEED, baseline_rows
from diet_ray.distillation.config import DistillConfig, default_proxies
from diet_ray.memory.addressing import AddressingConfig
from diet_ray.memory.fusion import FusionConfig
from diet_ray.search.agreement import fidelity
from diet_ray.search.baselines import soft
from diet_ray.search.runs import TrainingRows
from diet_ray.search.statistics import Array

FAMILIES = tuple(p.architecture for p in default_proxies())


def _refined(config: DistillConfig, addressing: AddressingConfig) -> DistillConfig:
    refinement = replace(config.refinement, outer_steps=12)
    return replace(config, refinement=refinement, addressing=addressing)


def _fused(config: DistillConfig, policy: Any) -> DistillConfig:
    budget = replace(config.budget, boundary_factor=2.0)
    return replace(config, budget=budget, fusion=FusionConfig(policy=policy))


def _one_proxy(config: DistillConfig, name: str) -> DistillConfig:
    return replace(config, proxies=tuple(p for p in config.proxies if p.architecture == name))


SETS: dict[str, Callable[[DistillConfig], DistillConfig]] = {
    "drawn by influence": lambda c: replace(c, influence=replace(c.influence, defensive_share=0.0)),
    "refined, top slots addressed": lambda c: _refined(c, AddressingConfig(num_slots=512)),
    "refined, all slots addressed": lambda c: _refined(c, AddressingConfig(mode="all")),
    "twice the slots, merged": lambda c: _fused(c, "merge"),
    "twice the slots, evicted": lambda c: _fused(c, "evict"),
    **{f"proxy {name} alone": partial(_one_proxy, name=name) for name in FAMILIES},
    "proxies trained on the slots": lambda c: replace(c, held_out_factor=0.0),
}


def ablation(bench: Bench, out: Path) -> dict[str, Any]:
    """For each change its figures, and the default's gain over it with its 95 % interval."""
    config = default_config(bench.source, REFERENCE_FRACTION, 0)
    default = distil(bench.log, config, out)
    scores = {"default": _scores(bench, default)}
    for name, change in SETS.items():
        scores[name] = _scores(bench, distil(bench.log, change(config), out))
    scores |= _relabelled(bench, default)
    return {name: _figures(bench, s, scores["default"]) for name, s in scores.items()}


def _relabelled(bench: Bench, default: Distilled) -> dict[str, Array]:
    """Changes that need no distillation of their own."""
    total, num_rows = len(bench.train), len(default.train)
    recent = torch.arange(total - num_rows, total)
    rows = soft(bench.train[recent], lambda _: default.teacher[recent])
    random = baseline_rows(bench, "random_soft", default, 0)
    slots = default.train
    share = math.sqrt(default.recipe.row_visit_fraction)
    residual = share * (slots.batch.label - slots.target)
    part = TrainingRows(slots.batch, slots.target + residual, slots.weight)
    return {
        "random rows, labelled by the proxies": _scores(bench, replace(default, train=random)),
        "recent rows, labelled by the proxies": _scores(bench, replace(default, train=rows)),
        "a share √r of the observed residual": _scores(bench, replace(default, train=part)),
        "observed labels": _scores(
            bench,
            replace(default, train=TrainingRows(slots.batch, slots.batch.label, slots.weight)),
        ),
    }


def _scores(bench: Bench, found: Distilled) -> Array:
    return bench.few_rows(found.train, found.recipe, DISTILLED_SEED).auc


def _figures(bench: Bench, scores: Array, default: Array) -> dict[str, Any]:
    found = fidelity(bench.full, scores)
    lost = gain(bench.full, default[:, None], {"it": scores[:, None]})
    return {
        "kendall_tau": found["kendall_tau"],
        "resolved_pair_accuracy": found["resolved_pair_accuracy"],
        "default_gain_low": lost["gain_low"],
        "default_gain_high": lost["gain_high"],
        "other_families": _other_families(bench, scores),
    }


def _other_families(bench: Bench, scores: Array) -> dict[str, float | None]:
    """Resolved pairs in order among the candidates that are not of a proxy's architecture."""
    found = {}
    for family in FAMILIES:
        kept = [i for i, c in enumerate(bench.candidates) if c.architecture != family]
        found[family] = fidelity(bench.full[kept], scores[kept])["resolved_pair_accuracy"]
    return found
