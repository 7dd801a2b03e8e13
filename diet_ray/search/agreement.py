"""What is reported about one arm's agreement with the full runs, and how sure it is.

Arms hold figures of merit (higher is better: AUC, or minus the log loss) of n distinct candidates,
S seeds. Ranks are taken on the ranking slice of the evaluation rows and regret on the later regret
slice, so that no candidate is picked and judged on the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from diet_ray.search.evaluation import Evaluation
from diet_ray.search.statistics import (
    Array,
    PairMask,
    bootstrap_interval,
    kendall_tau,
    leave_one_seed_out,
    mean_or_none,
    pair_accuracy,
    pooled_seed_sd,
    resolved_pairs,
    spearman_rho,
    top1_regret,
    top_k_overlap,
)

Interval = tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Runs of every candidate: `ranking` and `regret` (n, S); `blocks` (n, S, K).

    `regret` is NaN for runs that weren't judged on the regret slice. `blocks` is the figure on each
    of K consecutive parts of the ranking slice; blocks where it is undefined hold NaN. K may be 0.
    """

    ranking: Array
    regret: Array
    blocks: Array

    @classmethod
    def of(cls, runs: Sequence[Sequence[Evaluation]], *, by_logloss: bool = False) -> Arm:
        """From the evaluations of each candidate's runs, equally many each; AUC unless said."""

        def figures(pick: Callable[[Evaluation], float | None], sign: int = 1) -> Array:
            # None becomes NaN.
            return sign * np.array([[pick(e) for e in row] for row in runs], dtype=np.float64)

        if by_logloss:
            return cls(
                ranking=figures(lambda e: e.logloss, -1),
                regret=figures(lambda e: e.regret_logloss, -1),
                blocks=np.empty((len(runs), len(runs[0]), 0)),
            )
        blocks = [
            [[math.nan if b is None else b for b in e.block_auc] for e in row] for row in runs
        ]
        return cls(
            ranking=figures(lambda e: e.auc),
            regret=figures(lambda e: e.regret_auc),
            blocks=np.array(blocks, dtype=np.float64),
        )

    def __getitem__(self, candidates: list[int]) -> Arm:
        return Arm(
            ranking=self.ranking[candidates],
            regret=self.regret[candidates],
            blocks=self.blocks[candidates],
        )


class Fidelity(TypedDict):
    """How a method's scores agree with the full runs' means over all seeds.

    `*_matched`: the same scores against the references of the ceiling, each the mean of all seeds
    but one, averaged: the figure to hold against the ceiling, as both then face equal noise.
    """

    kendall_tau: float | None
    spearman_rho: float | None
    resolved_pair_accuracy: float | None
    kendall_tau_matched: float | None
    spearman_rho_matched: float | None
    resolved_pair_accuracy_matched: float | None
    top1_regret: float | None
    top3_overlap: float | None


class Ceiling(TypedDict):
    """What one more full run of every candidate would score: a held-out seed against the others."""

    kendall_tau_ceiling: float | None
    spearman_rho_ceiling: float | None
    resolved_pair_accuracy_ceiling: float | None
    top1_regret_ceiling: float | None
    num_resolved_pairs: int
    num_pairs: int
    seed_sd: float | None


class Intervals(TypedDict):
    """90 % bootstrap intervals over candidates, seeds and blocks of time together."""

    kendall_tau_interval: Interval
    spearman_rho_interval: Interval
    resolved_pair_accuracy_interval: Interval


def fidelity(full: Arm, score: Array, pairs: PairMask | None = None) -> Fidelity:
    """Agreement of `score` (n,) with the full runs, over all pairs or those of the mask (n, n).

    Rank correlation and top-of-the-list figures need whole lists: with a mask they are None.
    """
    reference = full.ranking.mean(axis=1)
    mask = np.ones((len(score), len(score)), dtype=bool) if pairs is None else pairs
    whole = pairs is None
    references = [(r, resolved & mask) for _, r, resolved in leave_one_seed_out(full.ranking)]
    return Fidelity(
        kendall_tau=kendall_tau(reference, score, mask),
        spearman_rho=spearman_rho(reference, score) if whole else None,
        resolved_pair_accuracy=pair_accuracy(reference, score, resolved_of(full) & mask),
        kendall_tau_matched=mean_or_none([kendall_tau(r, score, mask) for r, _ in references]),
        spearman_rho_matched=mean_or_none([spearman_rho(r, score) for r, _ in references])
        if whole
        else None,
        resolved_pair_accuracy_matched=mean_or_none(
            [pair_accuracy(r, score, resolved) for r, resolved in references]
        ),
        top1_regret=top1_regret(full.regret.mean(axis=1), score) if whole else None,
        top3_overlap=top_k_overlap(reference, score) if whole else None,
    )


def ceiling(full: Arm, pairs: PairMask | None = None) -> Ceiling:
    """The reliability of the full runs themselves, each seed against the mean of the others."""
    num_candidates = full.ranking.shape[0]
    mask = np.ones((num_candidates, num_candidates), dtype=bool) if pairs is None else pairs
    folds = list(leave_one_seed_out(full.ranking))
    regrets = [
        top1_regret(np.delete(full.regret, seed, axis=1).mean(axis=1), held_out)
        for seed, (held_out, _, _) in enumerate(folds)
    ]
    whole = pairs is None
    return Ceiling(
        kendall_tau_ceiling=mean_or_none([kendall_tau(r, held, mask) for held, r, _ in folds]),
        spearman_rho_ceiling=mean_or_none([spearman_rho(r, held) for held, r, _ in folds])
        if whole
        else None,
        resolved_pair_accuracy_ceiling=mean_or_none(
            [pair_accuracy(r, held, resolved & mask) for held, r, resolved in folds]
        ),
        top1_regret_ceiling=mean_or_none(regrets) if whole else None,
        num_resolved_pairs=_num_pairs(resolved_of(full) & mask),
        num_pairs=_num_pairs(mask),
        seed_sd=pooled_seed_sd(full.ranking),
    )


def intervals(full: Arm, method: Arm, *, num_replicates: int = 500, seed: int = 0) -> Intervals:
    """Bootstrap intervals of the fidelity of `method`'s seed means.

    A replicate draws candidates (as pair weights, so that no candidate is paired with itself),
    seeds of either arm, and blocks of time, the same for both arms: a run's figure is moved by the
    difference between the mean of the drawn blocks and that of all. Which pairs are resolved stays
    as the full runs say.
    """
    resolved = resolved_of(full)

    def tau(multiplicity: NDArray[np.int64], generator: np.random.Generator) -> float | None:
        reference, score = _resample(full, method, generator)
        return kendall_tau(reference, score, pair_weights(multiplicity))

    def rho(multiplicity: NDArray[np.int64], generator: np.random.Generator) -> float | None:
        reference, score = _resample(full, method, generator)
        return spearman_rho(np.repeat(reference, multiplicity), np.repeat(score, multiplicity))

    def accuracy(multiplicity: NDArray[np.int64], generator: np.random.Generator) -> float | None:
        reference, score = _resample(full, method, generator)
        return pair_accuracy(reference, score, resolved * pair_weights(multiplicity))

    num_candidates = full.ranking.shape[0]
    bounds = [
        bootstrap_interval(s, num_candidates, num_replicates=num_replicates, seed=seed)
        for s in (tau, rho, accuracy)
    ]
    return Intervals(
        kendall_tau_interval=bounds[0],
        spearman_rho_interval=bounds[1],
        resolved_pair_accuracy_interval=bounds[2],
    )


def resolved_of(full: Arm) -> PairMask:
    """The pairs that all full runs together resolve, (n, n)."""
    num_seeds = full.ranking.shape[1]
    return resolved_pairs(full.ranking.mean(axis=1), num_seeds, pooled_seed_sd(full.ranking))


def _num_pairs(mask: PairMask) -> int:
    return int(np.triu(mask, k=1).sum())


def pair_weights(multiplicity: NDArray[np.int64]) -> Array:
    """How often a bootstrap draw holds each pair, (n, n), from how often each candidate."""
    count = multiplicity.astype(np.float64)
    weights: Array = count[:, None] * count[None, :]
    return weights


def _resample(full: Arm, method: Arm, generator: np.random.Generator) -> tuple[Array, Array]:
    num_blocks = full.blocks.shape[2]
    drawn: NDArray[np.int64] = generator.integers(max(1, num_blocks), size=(num_blocks,))

    def means(arm: Arm) -> Array:
        runs = arm.ranking
        if len(drawn) and arm.blocks.shape[2] == num_blocks:
            usable = drawn[~np.isnan(arm.blocks[:, :, drawn]).any(axis=(0, 1))]
            if len(usable):
                shift = arm.blocks[:, :, usable].mean(axis=2) - np.nanmean(arm.blocks, axis=2)
                runs = runs + shift
        num_seeds = runs.shape[1]
        return runs[:, generator.integers(num_seeds, size=num_seeds)].mean(axis=1)

    return means(full), means(method)
