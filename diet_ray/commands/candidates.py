"""Which candidates a command is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diet_ray.errors import ConfigError


def read_candidates(path: Path | None, *, searched: bool = False) -> Any:
    """Candidates of a YAML file, the whole catalogue without one; or with `searched` what proposes
    them. Raises `ConfigError`."""
    from diet_ray.config import load_yaml
    from diet_ray.models.catalogue import default_candidates
    from diet_ray.search.space import candidates_from

    if path is None:
        return default_candidates()
    content = load_yaml(path)
    if set(content) != {"candidates"}:
        raise ConfigError(f"{path}: expected the key `candidates` alone, found {sorted(content)}")
    described = content["candidates"]
    if searched and isinstance(described, dict) and set(described) == {"optuna"}:
        from diet_ray.search.proposals import Proposals

        return Proposals.of(described["optuna"], f"{path}: optuna")
    return candidates_from(described, str(path))


def named_candidate(name: str, known: Any) -> Any:
    """The one of that name. Raises `ConfigError`, which suggests the nearest."""
    from diet_ray.documents import suggestion

    found = next((c for c in known if c.name == name), None)
    if found is None:
        hint = suggestion(name, [c.name for c in known], cutoff=0.4)
        raise ConfigError(f"--candidate: no candidate `{name}`; {hint}")
    return found
