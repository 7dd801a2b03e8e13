"""What `consistency.json` says of each candidate, and which resolved pairs of them flipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from diet_ray.report import format as fmt
from diet_ray.search.statistics import RESOLVED_STANDARD_ERRORS

FAMILIES = {
    "lr": "linear, factorised",
    "fm": "linear, factorised",
    "dnn": "deep",
    "wide_deep": "deep",
    "deepfm": "deep + factorised",
    "nfm": "deep + factorised",
    "dcn": "cross",
    "dcnv2": "cross",
    "pnn": "product, attention",
    "autoint": "product, attention",
    "finalmlp": "product, attention",
    "din": "behaviour sequence",
    "fwfm": "linear, factorised",
    "fmfm": "linear, factorised",
    "afm": "linear, factorised",
    "xdeepfm": "deep + factorised",
    "dcnv3": "cross",
    "edcn": "cross",
    "gdcn": "cross",
    "final": "cross",
    "fibinet": "product, attention",
    "masknet": "product, attention",
    "destine": "product, attention",
    "autoint_plus": "product, attention",
    "dien": "behaviour sequence",
    "sim": "behaviour sequence",
    "bst": "behaviour sequence",
    "hstu": "behaviour sequence",
    "transact": "behaviour sequence",
}
OTHER_FAMILY = "other"


@dataclass(frozen=True, kw_only=True)
class CandidateFigures:
    """One candidate in both arms; SDs are None below two seeds, ranks are averaged over ties."""

    name: str
    family: str
    full_auc: float | None
    full_sd: float | None
    distilled_auc: float | None
    distilled_sd: float | None
    full_logloss: float | None
    distilled_logloss: float | None
    full_seconds: float | None
    distilled_seconds: float | None
    num_full_seeds: int
    full_rank: float | None
    distilled_rank: float | None
    counted: bool
    """Whether it enters the statistics and has ranks."""
    why: str
    """What went wrong, or why it isn't counted; empty if neither."""

    @property
    def rank_change(self) -> float | None:
        """Places won in the distilled ranking; negative: lost."""
        if self.full_rank is None or self.distilled_rank is None:
            return None
        return self.full_rank - self.distilled_rank


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A resolved pair that the distilled runs put the other way round."""

    better: CandidateFigures
    worse: CandidateFigures
    full_gap: float
    distilled_gap: float
    """Distilled AUC of the better one minus that of the worse one; not positive."""


def candidates(consistency: Mapping[str, Any]) -> list[CandidateFigures]:
    """All candidates, best full run first; those without a full run last, by name.

    Ranks are among the counted ones: a failed candidate has none, and one model under two names
    has them once.
    """
    raw = list(consistency.get("candidates") or [])
    full = [_runs(c, "full") for c in raw]
    distilled = [_runs(c, "distilled") for c in raw]
    counted = [bool(c.get("counted", True)) for c in raw]
    full_ranks = _ranks(
        [_mean(r["auc"]) if k else None for r, k in zip(full, counted, strict=True)]
    )
    distilled_ranks = _ranks(
        [_mean(r["auc"]) if k else None for r, k in zip(distilled, counted, strict=True)]
    )
    rows = [
        CandidateFigures(
            name=str(c.get("name", "?")),
            family=_family(c),
            full_auc=_mean(full[i]["auc"]),
            full_sd=_sd(full[i]["auc"]),
            distilled_auc=_mean(distilled[i]["auc"]),
            distilled_sd=_sd(distilled[i]["auc"]),
            full_logloss=_mean(full[i]["logloss"]),
            distilled_logloss=_mean(distilled[i]["logloss"]),
            full_seconds=_mean(full[i]["seconds"]),
            distilled_seconds=_mean(distilled[i]["seconds"]),
            num_full_seeds=len(full[i]["auc"]),
            full_rank=full_ranks[i],
            distilled_rank=distilled_ranks[i],
            counted=counted[i],
            why=_why_not_counted(c, counted[i]),
        )
        for i, c in enumerate(raw)
    ]
    return sorted(rows, key=lambda r: (-(r.full_auc if r.full_auc is not None else -1.0), r.name))


def flipped_pairs(rows: Sequence[CandidateFigures], seed_sd: float | None) -> list[Flip]:
    """Resolved pairs in the wrong or no order, the widest full gap first; none without a seed SD.

    Resolved: full means differ by more than two standard errors, seed_sd · √(1/S_a + 1/S_b).
    """
    found = []
    runs = [
        (row, row.full_auc, row.distilled_auc)
        for row in rows
        if row.counted
        and row.full_auc is not None
        and row.distilled_auc is not None
        and row.num_full_seeds > 1
    ]
    for i, (a, full_a, distilled_a) in enumerate(runs if seed_sd is not None else []):
        for b, full_b, distilled_b in runs[i + 1 :]:
            error = (seed_sd or 0.0) * (1 / a.num_full_seeds + 1 / b.num_full_seeds) ** 0.5
            full_gap, distilled_gap = full_a - full_b, distilled_a - distilled_b
            if full_gap > RESOLVED_STANDARD_ERRORS * error and distilled_gap <= 0:
                found.append(
                    Flip(better=a, worse=b, full_gap=full_gap, distilled_gap=distilled_gap)
                )
    return sorted(found, key=lambda f: (-f.full_gap, f.better.name, f.worse.name))


def _why_not_counted(candidate: Mapping[str, Any], counted: bool) -> str:
    if candidate.get("error"):
        return str(candidate["error"])
    return "" if counted else "not counted: the same model as an earlier one"


def _family(candidate: Mapping[str, Any]) -> str:
    config = candidate.get("config") or {}
    architecture = config.get("architecture", candidate.get("architecture"))
    return FAMILIES.get(str(architecture), OTHER_FAMILY)


def _runs(candidate: Mapping[str, Any], arm: str) -> dict[str, list[float]]:
    """Per-seed values by key; a run that failed (null) is left out."""
    runs = candidate.get(arm) or {}
    found = {}
    for key in ("auc", "logloss", "seconds"):
        items = runs.get(key)
        items = [items] if isinstance(items, int | float) else items or []
        found[key] = [float(x) for x in items if not fmt.is_missing(x)]
    return found


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _sd(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _ranks(values: Sequence[float | None]) -> list[float | None]:
    """1 is the highest; ties share their mean rank."""
    known = [v for v in values if v is not None]
    if not known:
        return [None] * len(values)
    ranks = iter(rankdata([-v for v in known]))
    return [None if v is None else float(next(ranks)) for v in values]
