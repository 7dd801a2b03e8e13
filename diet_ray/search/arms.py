"""The two arms of a comparison, full training and distilled search: their runs and their costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diet_ray.models.catalogue import Candidate
from diet_ray.search.agreement import Arm
from diet_ray.search.runs import RunResult
from diet_ray.search.statistics import distinct
from diet_ray.search.trials import SearchResult
from diet_ray.training.full_runs import FullRuns


class Arms:
    """The runs of both arms, and which candidates the statistics count.

    `distilled` and `full` are runs by candidate, then seed; `complete` are the candidates that
    finished in both, by index, and `counted` those of them that are no earlier one under another
    name.
    """

    def __init__(
        self,
        candidates: tuple[Candidate, ...],
        seeds: tuple[int, ...],
        found: SearchResult,
        full: FullRuns,
    ) -> None:
        self.candidates, self.search, self.full_runs = candidates, found, full
        self.num_seeds = len(seeds)
        self.distilled = [list(t.runs) for t in found.trials]
        self.full = [
            [full.results[c.name, s] for s in seeds if (c.name, s) in full.results]
            for c in candidates
        ]
        self.complete = [
            i
            for i in range(len(candidates))
            if len(self.full[i]) == len(self.distilled[i]) == self.num_seeds
        ]
        first = distinct([candidates[i].identity for i in self.complete])
        self.counted = [self.complete[i] for i in first]

    def errors(self) -> dict[str, str]:
        """Candidate name -> what went wrong, where something did."""
        errors = {
            t.candidate.name: f"distilled run: {t.error}" for t in self.search.trials if t.error
        }
        for name, error in self.full_runs.failures.items():
            errors.setdefault(name, f"full run: {error}")
        return errors

    def arm(self, runs: list[list[RunResult]], *, by_logloss: bool = False) -> Arm:
        """The counted candidates' figures, higher is better."""
        counted = [[r.evaluation for r in runs[i]] for i in self.counted]
        return Arm.of(counted, by_logloss=by_logloss)


class Costs:
    """Wall-clock and row visits of both arms, over the candidates that finished in both.

    The search's wall-clock is that of all candidates, failed ones included.
    """

    def __init__(self, arms: Arms, distill_seconds: float) -> None:
        full = [r for i in arms.complete for r in arms.full[i]]
        distilled = [r for i in arms.complete for r in arms.distilled[i]]
        self.num_workers = arms.search.num_workers
        self.num_runs = len(full)
        self.full_run_seconds = sum(r.seconds for r in full)
        self.distilled_run_seconds = sum(r.seconds for r in distilled)
        self.full_run_cpu_seconds = _total_or_none([r.cpu_seconds for r in full])
        self.distilled_run_cpu_seconds = _total_or_none([r.cpu_seconds for r in distilled])
        self.full_seconds = self.full_run_seconds / self.num_workers
        self.distilled_seconds = arms.search.wall_seconds
        self.distill_seconds = distill_seconds
        self.full_visits = float(np.mean([r.row_visits for r in full]))
        self.distilled_visits = float(np.mean([r.row_visits for r in distilled]))
        self.mean_full_train = float(np.mean([r.train_seconds for r in full]))
        self.mean_evaluation = float(np.mean([r.evaluation_seconds for r in full]))

    @property
    def amortised_fraction(self) -> float:
        """The share of the stream that a run can be trained on in an equal share of wall-clock.

        That of the distilled search and the distillation together, on the same workers, with one
        evaluation a run. Never below what a distilled run visits, nor above the whole stream.
        """
        total = (self.distilled_seconds + self.distill_seconds) * self.num_workers
        train = total / self.num_runs - self.mean_evaluation
        fraction = max(train / self.mean_full_train, self.distilled_visits / self.full_visits)
        return min(1.0, float(f"{fraction:.3g}"))


def _total_or_none(seconds: Sequence[float | None]) -> float | None:
    known = [s for s in seconds if s is not None]
    return sum(known) if len(known) == len(seconds) else None
