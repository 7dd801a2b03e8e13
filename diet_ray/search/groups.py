"""Which candidates share a Tune trial: enough work that starting one is no matter.

Candidates whose runs go side by side form a set; sets are spread over groups of like cost.
"""

from __future__ import annotations

from collections.abc import Sequence

from diet_ray.data.batch import FeatureSpec
from diet_ray.models.catalogue import Candidate
from diet_ray.search.run_set import DistilledRows
from diet_ray.search.size import size_if_built
from diet_ray.search.stacks import like_parts, shape, stack_size

GROUPS_PER_WORKER = 3
"""Trials that a worker takes, one after the other: the shorter the last of them, the shorter the
other workers wait for it."""
_FLOPS_PER_CALL = 2e7
"""What a step costs however few its rows, in the arithmetic that would take as long."""

Group = tuple[tuple[int, ...], ...]
"""Sets of candidates, by index."""


def sets(
    candidates: Sequence[Candidate], rows: DistilledRows, num_seeds: int
) -> list[tuple[int, ...]]:
    """Candidates of one shape, as many as go side by side with all their seeds, at least one."""
    by_shape: dict[object, list[int]] = {}
    for i, candidate in enumerate(candidates):
        by_shape.setdefault(shape(candidate), []).append(i)
    found: list[tuple[int, ...]] = []
    for own in by_shape.values():
        size = stack_size(candidates[own[0]], rows.features, rows.recipe) // num_seeds
        found += [tuple(part) for part in like_parts(own, max(1, size))]
    return found


def groups(
    candidates: Sequence[Candidate], rows: DistilledRows, num_seeds: int, num_workers: int
) -> list[Group]:
    """All candidates in groups, those that take longest first."""
    found = sets(candidates, rows, num_seeds)
    costs = {s: _cost([candidates[i] for i in s], rows, num_seeds) for s in found}
    num_groups = min(len(found), GROUPS_PER_WORKER * num_workers)
    members: list[list[tuple[int, ...]]] = [[] for _ in range(num_groups)]
    totals = [0.0] * num_groups
    for own in sorted(found, key=lambda s: (-costs[s], s)):
        least = totals.index(min(totals))
        members[least].append(own)
        totals[least] += costs[own]
    order = sorted(range(num_groups), key=lambda g: (-totals[g], g))
    return [tuple(members[g]) for g in order]


def _cost(candidates: Sequence[Candidate], rows: DistilledRows, num_seeds: int) -> float:
    """Of training a set, in floating-point operations."""
    candidate = candidates[0]
    batch_size = rows.recipe.batch_size_of(candidate.batch_size)
    num_steps = rows.recipe.epochs * -(-len(rows.train) // batch_size)
    num_runs = len(candidates) * num_seeds
    per_row = 6.0 * _numbers_per_row(candidate, rows.features)
    return num_steps * (_FLOPS_PER_CALL + num_runs * batch_size * per_row)


def _numbers_per_row(candidate: Candidate, features: FeatureSpec) -> float:
    """Weights that a row meets; none if the model can't be built, which its run will tell."""
    num_positions = len(features.categorical) + sum(s.max_length for s in features.sequence)
    size = size_if_built(candidate, features)
    return 0.0 if size is None else size.dense + num_positions * candidate.embedding_size
