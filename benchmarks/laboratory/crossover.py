"""From how many candidates on a distilled set, its distillation paid for, beats sub-sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

MAX_CANDIDATES = 1000


def crossover(points: Sequence[dict[str, Any]], fraction: float, passes: float) -> dict[str, Any]:
    """The fewest candidates for which the set of `fraction` is worth its distillation.

    points: the curve, cheapest first. `passes`: row visits of a distillation over the log's rows
    (training visits count one, forward passes a third). With N candidates a distilled run costs its
    own share of a full run and passes / N; a baseline spends all of that on one pass over a thinned
    stream (or by halving), whose accuracy is read off the curve, linearly in the logarithm of the
    cost. Where the curve ends below that cost the baseline is unknown, so that the answer may be
    too high: `at_most` says so.

    Costs are counted twice: in row visits, and in CPU time, where a pass is the mean full run and a
    baseline is taken to cost its share of the visits, which spares it its evaluation.
    """
    own = next(p for p in points if np.isclose(p["fraction"], fraction))
    mean_full_s = own["full_seconds"] / len(own["auc"])
    return {
        "fraction": fraction,
        "by_visits": _by(points, own, own["row_visit_fraction"], passes),
        "by_cpu_time": _by(
            points,
            own,
            own["distilled_seconds"] / own["full_seconds"],
            own["distill_seconds"] / mean_full_s,
        ),
    }


def _by(
    points: Sequence[dict[str, Any]], own: dict[str, Any], share: float, passes: float
) -> dict[str, Any]:
    """share: of a distilled run in a full one."""
    found: dict[str, Any] = {"passes": passes}
    accuracy = own["resolved_pair_accuracy"]
    for name in ("subsample", "halving"):
        known = [
            (p["row_visit_fraction"], p["baselines"][name]["resolved_pair_accuracy"])
            for p in points
            if name in p["baselines"]
        ]
        found[name] = _fewest(accuracy, share, np.array(known).reshape(-1, 2), passes)
    return found


def _fewest(accuracy: float, share: float, known: np.ndarray, passes: float) -> dict[str, Any]:
    """`candidates` is None if no number up to `MAX_CANDIDATES` is found to do."""
    if not len(known):
        return {"candidates": None, "at_most": True}
    unknown = False
    for num_candidates in range(1, MAX_CANDIDATES + 1):
        cost = min(1.0, share + passes / num_candidates)
        if cost > known[-1, 0]:
            unknown = True
            continue
        rival = np.interp(np.log(cost), np.log(known[:, 0]), known[:, 1])
        if accuracy > rival:
            return {"candidates": num_candidates, "at_most": unknown}
        unknown = False
    return {"candidates": None, "at_most": unknown}
