"""Some candidates with all their seeds: side by side where that can be done, else one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diet_ray.data.batch import FeatureSpec
from diet_ray.errors import describe
from diet_ray.models.catalogue import Candidate
from diet_ray.search.evaluation import EvaluationRows
from diet_ray.search.runs import DistilledRun, RunResult, TrainingRows
from diet_ray.search.stacks import Member, StackedRun, like_parts, stack_size
from diet_ray.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class DistilledRows:
    """What distilled runs train on and are judged on."""

    train: TrainingRows
    features: FeatureSpec
    recipe: Recipe
    evaluation: EvaluationRows


class RunSet:
    """Distilled runs of candidates of one shape (see `diet_ray.search.stacks.shape`).

    A run that raises is told by its error, and the others go on.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        seeds: Sequence[int],
        rows: DistilledRows,
        device: str = "cpu",
    ) -> None:
        self._candidates, self._seeds = tuple(candidates), tuple(seeds)
        self._rows, self._device = rows, device
        self._share = 0.0
        self._errors: dict[Member, str] = {}
        self._members = members = [Member(c, s) for c in candidates for s in seeds]
        self._runs: list[StackedRun | DistilledRun] = []
        size = stack_size(candidates[0], rows.features, rows.recipe)
        for part in like_parts(members, size):
            self._runs += self._begun(part)

    def advance(self, share: float) -> None:
        """Takes all runs to that share of their steps."""
        self._share = share
        runs: list[StackedRun | DistilledRun] = []
        for run in self._runs:
            try:
                _advance(run, share)
                runs.append(run)
            except Exception as e:
                runs += self._alone(run, e)
        self._runs = runs

    def results(self) -> list[tuple[RunResult, ...] | str]:
        """Of each candidate: its runs in the order of the seeds, or the first error among them."""
        found: dict[Member, RunResult | str] = {}
        runs: list[StackedRun | DistilledRun] = []
        for run in self._runs:
            if isinstance(run, StackedRun):
                try:
                    judged = run.results(self._rows.evaluation)
                except Exception as e:
                    runs += self._alone(run, e)
                    continue
                found |= dict(zip(run.members, judged, strict=True))
            runs.append(run)
        self._runs = runs
        found |= self._errors
        for run in runs:
            if isinstance(run, DistilledRun):
                found[Member(run.candidate, run.seed)] = self._judged(run)
        outcomes: list[tuple[RunResult, ...] | str] = []
        for candidate in self._candidates:
            own = [found[Member(candidate, seed)] for seed in self._seeds]
            error = next((r for r in own if isinstance(r, str)), None)
            outcomes.append(error or tuple(r for r in own if isinstance(r, RunResult)))
        return outcomes

    def state(self) -> dict[str, Any]:
        """Where all runs stand: tensors and plain values, for `load_state`."""
        place = {member: i for i, member in enumerate(self._members)}
        return {
            "share": self._share,
            "errors": {place[member]: text for member, text in self._errors.items()},
            "runs": [
                {"members": [place[m] for m in _members_of(run)], "state": run.state()}
                for run in self._runs
            ],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes to where runs of as many candidates, of the same shape and seeds, stood."""
        fresh = {_members_of(run): run for run in self._runs}
        self._runs, self._share = [], state["share"]
        self._errors = {self._members[i]: text for i, text in state["errors"].items()}
        for own in state["runs"]:
            members = tuple(self._members[i] for i in own["members"])
            # A stack that couldn't be is alone in a state.
            run = fresh.get(members) or self._begun_alone(members[0])
            if run is not None:
                run.load_state(own["state"])
                self._runs.append(run)

    def _begun(self, members: Sequence[Member]) -> list[StackedRun | DistilledRun]:
        if len(members) > 1:
            try:
                rows = self._rows
                return [StackedRun(members, rows.train, rows.features, rows.recipe, self._device)]
            except Exception:
                # Whatever it is: if it isn't the stacking, the runs meet it again by themselves.
                pass
        return [run for member in members if (run := self._begun_alone(member)) is not None]

    def _begun_alone(self, member: Member) -> DistilledRun | None:
        rows = self._rows
        try:
            return DistilledRun(
                member.candidate, rows.train, rows.features, rows.recipe, member.seed, self._device
            )
        except Exception as e:
            self._errors[member] = describe(e)
            return None

    def _alone(self, run: StackedRun | DistilledRun, error: Exception) -> list[DistilledRun]:
        """The runs of a stack that raised, from their beginning; nothing for a run by itself."""
        if isinstance(run, DistilledRun):
            self._errors[Member(run.candidate, run.seed)] = describe(error)
            return []
        runs = []
        for member in run.members:
            begun = self._begun_alone(member)
            try:
                if begun is not None:
                    _advance(begun, self._share)
                    runs.append(begun)
            except Exception as e:
                self._errors[member] = describe(e)
        return runs

    def _judged(self, run: DistilledRun) -> RunResult | str:
        try:
            return run.result(self._rows.evaluation)
        except Exception as e:
            return describe(e)


def _members_of(run: StackedRun | DistilledRun) -> tuple[Member, ...]:
    if isinstance(run, StackedRun):
        return run.members
    return (Member(run.candidate, run.seed),)


def _advance(run: StackedRun | DistilledRun, share: float) -> None:
    run.advance(int(run.num_steps_planned * share) - run.num_steps)
