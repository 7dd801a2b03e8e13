"""Candidates that a searcher proposes one after the other, each by what the ones before gave.

    candidates:
      optuna:
        num_samples: 40
        seed: 0
        architecture: [fm, dcnv2]
        learning_rate: {low: 1e-4, high: 1e-2, log: true}
        hidden_sizes: [[64], [128, 64]]

Keys are those of `random:` in `diet_ray.search.space`; what Optuna is told is the mean AUC over
seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray import tune

from diet_ray.config import from_mapping, to_mapping
from diet_ray.errors import ConfigError
from diet_ray.models.catalogue import Candidate
from diet_ray.search.space import Range, is_whole, random_space, readable_name


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """A space and how many candidates are to be drawn from it."""

    num_samples: int
    seed: int
    sources: Mapping[str, Range | list[Any]]
    """By a candidate's key: a range, or the values to choose from."""

    @classmethod
    def of(cls, content: Any, where: str) -> Proposals:
        """From what `optuna:` holds. Raises `ConfigError`."""
        num_samples, seed, sources = random_space(content, where)
        return cls(num_samples=num_samples, seed=seed, sources=sources)

    def tune_space(self) -> dict[str, Any]:
        """As Ray Tune draws it; values that aren't plain are JSON."""
        return {key: _tune(key, source) for key, source in self.sources.items()}

    def candidate(self, values: Mapping[str, Any]) -> Candidate:
        """The candidate of values drawn from `tune_space`. Raises `ConfigError`."""
        plain = {
            key: value if isinstance(self.sources[key], Range) else json.loads(value)
            for key, value in values.items()
        }
        content = {**plain, "name": plain["architecture"]}
        candidate = from_mapping(Candidate, content, "candidates: optuna")
        varying = [key for key, source in self.sources.items() if _varies(source)]
        content["name"] = readable_name(candidate, varying)
        return from_mapping(Candidate, content, "candidates: optuna")

    def values(self, candidate: Candidate) -> dict[str, Any] | None:
        """Inverse of `candidate`; None if it isn't of this space."""
        own = to_mapping(candidate)
        found = {}
        for key, source in self.sources.items():
            if isinstance(source, Range):
                if not source.low <= own[key] <= source.high:
                    return None
                found[key] = own[key]
            else:
                choice = next((c for c in source if _with(own, key, c) == candidate), None)
                if choice is None:
                    return None
                found[key] = _text(choice)
        return found

    def architecture(self, values: Mapping[str, Any]) -> str:
        """Of values drawn from `tune_space`, even if they make no candidate."""
        return str(json.loads(values["architecture"]))


def _with(own: Mapping[str, Any], key: str, choice: Any) -> Candidate | None:
    """A candidate with one value as it is written in a file: `1e-3` is text there, 0 no float."""
    try:
        return from_mapping(Candidate, {**own, key: choice}, "candidates: optuna")
    except ConfigError:
        return None


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _varies(source: Range | list[Any]) -> bool:
    return isinstance(source, Range) or len(source) > 1


def _tune(key: str, source: Range | list[Any]) -> Any:
    if not isinstance(source, Range):
        return tune.choice([_text(value) for value in source])
    if is_whole(key):
        draw = tune.lograndint if source.log else tune.randint
        return draw(int(source.low), int(source.high) + 1)
    draw = tune.loguniform if source.log else tune.uniform
    return draw(source.low, source.high)


def optuna_search(proposals: Proposals, known: Sequence[tuple[dict[str, Any], float]]) -> Any:
    """Ray Tune's searcher of that name. known: values and mean AUC of what was tried before."""
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "candidates: optuna: isn't installed: pip install 'diet-ray[optuna]'"
        ) from None
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return OptunaSearch(
        metric="auc",
        mode="max",
        # Under the same seed, a search that goes on would propose its first candidates again.
        seed=proposals.seed + len(known),
        points_to_evaluate=[{f"values/{k}": v for k, v in own.items()} for own, _ in known] or None,
        evaluated_rewards=[auc for _, auc in known] or None,
    )
