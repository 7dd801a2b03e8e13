"""Which of a model's parameters closed forms cover, proved on rows rather than believed.

A layer may be used behind its back (its weight tied to another's, read by a functional call), or
mix its rows' places in an order of its own. So the first rows that a model is asked about are also
differentiated one by one, and a parameter whose gradients differ joins those without a closed form.
"""

from __future__ import annotations

import warnings
import weakref
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diet_ray.data.batch import Batch
from diet_ray.errors import ConfigError
from diet_ray.influence.capture import captured, differentiable
from diet_ray.influence.closed_forms import closed_form_of
from diet_ray.influence.factors import Factor
from diet_ray.models.base import Recommender

NUM_CHECKED_ROWS = 8
_TOLERANCES = {torch.float64: 1e-9}
_LOOSE_TOLERANCE = 1e-3
"""Relative to the parameter's largest gradient norm: far above rounding, far below a mistake."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    layers: tuple[nn.Module, ...]
    """Watched ones."""
    names: dict[int, str]
    """Of the parameters that closed forms cover, by id."""
    fallback: tuple[str, ...]
    """Names of all others, beside the table."""


_KNOWN: weakref.WeakKeyDictionary[Recommender, Coverage] = weakref.WeakKeyDictionary()


def coverage_of(model: Recommender, batch: Batch) -> Coverage:
    """Found once a model, on the first rows of `batch` that it is asked with.

    Warns of parameters without a closed form, by name.
    """
    found = _KNOWN.get(model)
    if found is None:
        with torch.autocast(model.table.weight.device.type, enabled=False):
            found = _KNOWN[model] = find_coverage(model, batch[:NUM_CHECKED_ROWS])
        if found.fallback:
            warnings.warn(
                f"{type(model).__name__}: no closed form covers {', '.join(found.fallback)}; "
                "their gradients are taken row by row, which is slow: register one with "
                "diet_ray.influence.closed_forms.closed_form",
                stacklevel=2,
            )
    return found


def declare_fallback(model: Recommender, fallback: tuple[str, ...]) -> None:
    """Says what `coverage_of(model, …).fallback` is, found on another copy of the model."""
    _KNOWN[model] = Coverage(
        layers=_layers_with_form(model),
        names={
            id(p): n
            for n, p in model.named_parameters()
            if p is not model.table.weight and n not in fallback
        },
        fallback=fallback,
    )


def find_coverage(model: Recommender, batch: Batch) -> Coverage:
    """As `coverage_of`, without memory or warning; `batch` is a handful of rows.

    Raises `ConfigError` if the model reads its table by another way than gathering.
    """
    layers = _layers_with_form(model)
    parameters = {n: p for n, p in model.named_parameters() if p is not model.table.weight}
    reference = _one_by_one(model, parameters, batch)
    names = {id(p): n for n, p in parameters.items()}
    claimed = claimed_gradients(model, layers, names, batch)
    covered = {n for n in parameters if _agree(claimed.get(n), reference[n])}
    return Coverage(
        layers=layers,
        names={i: n for i, n in names.items() if n in covered},
        fallback=tuple(n for n, p in parameters.items() if n not in covered and p.numel()),
    )


def _layers_with_form(model: Recommender) -> tuple[nn.Module, ...]:
    return tuple(
        module
        for module in model.modules()
        if module is not model.table
        and any(True for _ in module.parameters(recurse=False))
        and closed_form_of(module) is not None
    )


def claimed_gradients(
    model: Recommender, layers: tuple[nn.Module, ...], names: dict[int, str], batch: Batch
) -> dict[str, Factor]:
    """What the closed forms say, by parameter name."""
    gathered = model.table.gather(model.table.rows(batch)).detach().requires_grad_()
    with torch.enable_grad(), captured(layers) as capture:
        logit = model.head(gathered, batch).logit
        differentiate(logit, [gathered, *capture.leaves])
    return capture.factors(names, len(batch))


def differentiate(logit: Tensor, at: list[Tensor]) -> tuple[Tensor, ...]:
    """∂(Σ logit)/∂ of each tensor `at`, zero where the logit doesn't depend on it."""
    if not logit.requires_grad:
        return tuple(torch.zeros_like(x) for x in at)
    return torch.autograd.grad(logit.sum(), at, materialize_grads=True)


def _one_by_one(
    model: Recommender, parameters: dict[str, nn.Parameter], batch: Batch
) -> dict[str, Tensor | None]:
    """(B, *shape) by name; None for a parameter that the logit doesn't depend on."""
    with differentiable(model):
        rows: list[tuple[Tensor | None, ...]] = []
        for i in range(len(batch)):
            row = batch[i : i + 1]
            gathered = model.table.gather(model.table.rows(row)).detach()
            with torch.enable_grad():
                logit = model.head(gathered, row).logit[0]
            at = [model.table.weight, *parameters.values()]
            table, *found = (
                torch.autograd.grad(logit, at, allow_unused=True)
                if logit.requires_grad
                else [None] * len(at)
            )
            if table is not None:
                raise ConfigError(
                    f"{type(model).__name__}: its head reads `table.weight` beside what was "
                    "gathered from it: per-row gradients can't follow; gather by `table` alone"
                )
            rows.append(tuple(found))
    result: dict[str, Tensor | None] = {}
    for j, (name, p) in enumerate(parameters.items()):
        column = [row[j] for row in rows]
        unused = all(g is None for g in column)
        known = [torch.zeros_like(p) if g is None else g for g in column]
        result[name] = None if unused else torch.stack(known)
    return result


def _agree(claimed: Factor | None, reference: Tensor | None) -> bool:
    if reference is None:
        return True
    if claimed is None:
        return False
    found = claimed.multiplied_out()
    if found.shape != reference.shape:
        return False
    tolerance = _TOLERANCES.get(reference.dtype, _LOOSE_TOLERANCE)
    scale = reference.flatten(1).norm(dim=1).max()
    return bool((found - reference).flatten(1).norm(dim=1).max() <= tolerance * scale)
