"""Population-based training: candidates that differ in rates alone learn from one another's runs.

Jaderberg et al.: Population Based Training of Neural Networks, arXiv 1711.09846, by Ray Tune's
`PopulationBasedTraining`. At each report but the last, the weakest quarter of a population goes on
from the weights of one of the best quarter, at that one's rates, changed. A population's candidates
are one architecture of one shape on the same fields, so that an architecture never takes another's
place. What a candidate ends with is one run at rates that changed on the way: its `schedule`, under
which a distilled or a full run of its own is the same training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, PopulationBasedTraining

from diet_ray.config import from_mapping, to_mapping
from diet_ray.models.catalogue import Candidate
from diet_ray.search.group_trial import GroupTrial
from diet_ray.search.run_set import RunSet
from diet_ray.search.stacks import shape
from diet_ray.training.config import Rates

RATES = ("learning_rate", "weight_decay", "dropout")
_MAX_DROPOUT = 0.9
_STATE = "state.pt"


def populations(candidates: Sequence[Candidate]) -> list[int]:
    """The number of each candidate's population: its members' weights fit one another."""
    numbers: dict[Any, int] = {}
    kinds = [(*shape(c), *c.smaller_fields.items()) for c in candidates]
    return [numbers.setdefault(kind, len(numbers)) for kind in kinds]


class PopulationTrial(GroupTrial):
    """A candidate with all its seeds, which may go on from where another of its population stood.

    Its configuration holds the candidate's number as that of a group, and the rates to come.
    """

    by_turns = True

    def _begin(self, config: dict[str, Any]) -> None:
        super()._begin(config)
        ((self._listed,),) = self._sets
        self._rates = {name: float(config[name]) for name in RATES}
        self._take((self._listed.first_rates,))

    def _take(self, history: tuple[Rates, ...]) -> None:
        """Goes on after a run at these rates, with this trial's from here on."""
        begin = self._num_reports / self._work.num_reports
        rates = Rates(begin=begin, **self._rates)
        if replace(history[-1], begin=begin) != rates:
            history = (*(r for r in history if r.begin < begin), rates)
        self._history = history
        schedule = history[1:] if history[0] == self._listed.first_rates else history
        self._sets = [(replace(self._listed, schedule=schedule),)]

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        assert self._runs is not None, "a trial that has ended isn't saved"
        content = {
            "num_reports": self._num_reports,
            "history": [to_mapping(rates) for rates in self._history],
            "runs": self._runs.state(),
        }
        torch.save(content, Path(checkpoint_dir) / _STATE)

    def load_checkpoint(self, checkpoint: Any) -> None:
        content = torch.load(
            Path(checkpoint) / _STATE, map_location=self._work.device, weights_only=True
        )
        self._num_reports = content["num_reports"]
        self._take(tuple(from_mapping(Rates, r, "checkpoint") for r in content["history"]))
        work = self._work
        self._runs = RunSet(self._sets[0], work.seeds, work.rows, work.device)
        self._runs.load_state(content["runs"])


class _Members:
    """A Tune controller that shows the trials of one population alone."""

    def __init__(self, controller: Any, trial_ids: set[str]) -> None:
        self._controller, self._trial_ids = controller, trial_ids

    def __getattr__(self, name: str) -> Any:
        return getattr(self._controller, name)

    def get_trials(self) -> list[Trial]:
        return self._own(self._controller.get_trials())

    def get_live_trials(self) -> list[Trial]:
        # Tune counts a trial whose process died among them.
        return [t for t in self._own(self._controller.get_live_trials()) if not t.is_finished()]

    def _own(self, trials: Iterable[Trial]) -> list[Trial]:
        return [t for t in trials if t.trial_id in self._trial_ids]


class Populations(FIFOScheduler):
    """A `PopulationBasedTraining` for each population, whose members wait for one another."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        super().__init__()
        self._candidates = tuple(candidates)
        self._numbers = populations(candidates)
        self._schedulers = [
            _scheduler([c for c, n in zip(candidates, self._numbers, strict=True) if n == number])
            for number in range(len(set(self._numbers)))
        ]
        self._group: dict[str, int] = {}
        """By trial, its candidate's number."""

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        taken = [s.set_search_properties(metric, mode, **spec) for s in self._schedulers]
        return super().set_search_properties(metric, mode, **spec) and all(taken)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        group = self._group[trial.trial_id] = trial.config["group"]
        own = self._candidates[group]
        trial.set_config(trial.config | {name: getattr(own, name) for name in RATES})
        number = self._numbers[group]
        self._schedulers[number].on_trial_add(self._members(tune_controller, number), trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        number = self._numbers[self._group[trial.trial_id]]
        return self._on_result(self._members(tune_controller, number), number, trial, result)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        for number, scheduler in enumerate(self._schedulers):
            members = self._members(tune_controller, number)
            chosen = scheduler.choose_trial_to_run(members)
            if chosen is None and self._all_wait(members):
                # The last one that they waited for has ended without a word to the scheduler.
                first = members.get_live_trials()[0]
                self._on_result(members, number, first, first.last_result)
                chosen = scheduler.choose_trial_to_run(members)
            if chosen is not None:
                return chosen
        return None

    def _on_result(
        self, members: _Members, number: int, trial: Trial, result: dict[str, Any]
    ) -> str:
        decision: str = self._schedulers[number].on_trial_result(members, trial, result)
        for member in members.get_trials():
            # With the rates of another, a trial gets all of its configuration.
            member.set_config(member.config | {"group": self._group[member.trial_id]})
        return decision

    def _all_wait(self, members: _Members) -> bool:
        live = members.get_live_trials()
        return bool(live) and all(t.status == Trial.PAUSED for t in live)

    def _members(self, controller: Any, number: int) -> _Members:
        ids = {i for i, group in self._group.items() if self._numbers[group] == number}
        return _Members(controller, ids)


def _scheduler(population: Sequence[Candidate]) -> PopulationBasedTraining:
    """Rates change by a fifth, or, one time in four, to one that the population began with."""
    begun = {name: sorted({float(getattr(c, name)) for c in population}) for name in RATES}
    return PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=1,
        hyperparam_mutations={name: tune.choice(values) for name, values in begun.items()},
        custom_explore_fn=_rounded,
        log_config=False,
        synch=True,
    )


def _rounded(config: dict[str, Any]) -> dict[str, Any]:
    """Rates as a name or a file shows them."""
    rates = {name: float(f"{config[name]:.6g}") for name in RATES}
    return config | rates | {"dropout": min(rates["dropout"], _MAX_DROPOUT)}
