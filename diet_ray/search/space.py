"""What to search: a list of candidates, a grid, or random draws from ranges.

    candidates: default                      # the whole catalogue

    candidates:                              # a list; every key of a candidate, `name` at will
      - {architecture: dcnv2, embedding_size: 8}

    candidates:                              # every combination
      grid: {architecture: [fm, dcnv2], embedding_size: [8, 16], hidden_sizes: [[64], [128, 64]]}

    candidates:                              # independent draws
      random:
        num_samples: 20
        seed: 0
        architecture: [fm, dcnv2]
        learning_rate: {low: 1e-4, high: 1e-2, log: true}
        embedding_size: {low: 4, high: 64, log: true}

    candidates: my_package.my_module:candidates    # of your own: a sequence, or what gives one

Sizes by field are one value, of which a grid and random draws take a list:

    field_embedding_sizes: [{}, {user_id: 4}, {user_id: 4, item_id: 8}]

In a grid and in random draws a value that is no list (of values) and no range is fixed. `list`,
`grid` and `random` may stand together.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_ray.config import from_mapping
from diet_ray.documents import cut, shown, suggestion
from diet_ray.errors import ConfigError
from diet_ray.models.catalogue import Candidate, default_candidates

MAX_CANDIDATES = 10_000

_ABBREVIATIONS = {
    "embedding_size": "e",
    "hidden_sizes": "h",
    "dropout": "drop",
    "num_cross_layers": "x",
    "num_heads": "heads",
    "learning_rate": "lr",
    "weight_decay": "wd",
    "beta1": "beta1=",
    "beta2": "beta2=",
    "epsilon": "eps",
    "batch_size": "b",
    "without_fields": "without",
    "field_embedding_sizes": "fields",
}


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`, both included; uniform in the logarithm if `log`."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError("low must be below high")
        if self.log and self.low <= 0:
            raise ValueError("log needs low above 0")

    def draw(self, generator: np.random.Generator, *, whole: bool) -> float | int:
        """One number; a whole one is drawn from unit cells, so that its ends are as likely."""
        low, high = (self.low - 0.5, self.high + 0.5) if whole else (self.low, self.high)
        if self.log:
            value = math.exp(generator.uniform(math.log(max(low, 1e-300)), math.log(high)))
        else:
            value = float(generator.uniform(low, high))
        if whole:
            return int(min(max(round(value), math.ceil(self.low)), math.floor(self.high)))
        return float(f"{value:.6g}")


def candidates_from(content: Any, where: str) -> tuple[Candidate, ...]:
    """The candidates that the value of a `candidates:` key describes.

    `where` names the source for messages. Names are unique; those left out are made from what
    varies. Raises `ConfigError` for unknown keys, wrong values, empty spaces, names given twice.
    """
    if content is None or content == "default":
        return default_candidates()
    if isinstance(content, str):
        return _imported(content, where)
    if isinstance(content, list):
        content = {"list": content}
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: expected a list of candidates, `grid:` or `random:`")
    if "optuna" in content:
        raise ConfigError(f"{where}: `optuna` stands alone, and only for `diet search`")
    kinds = {"list": _listed, "grid": _grid, "random": _random}
    settings: list[tuple[str, dict[str, Any]]] = []
    for kind, value in content.items():
        if kind not in kinds:
            hint = suggestion(cut(str(kind)), kinds, "known keys")
            raise ConfigError(f"{where}: unknown key `{cut(str(kind))}`; {hint}")
        settings += kinds[kind](value, f"{where}: {kind}")
    _check_number(len(settings), where)
    if not settings:
        raise ConfigError(f"{where}: no candidates; name at least one")
    return _named(settings)


def _imported(name: str, where: str) -> tuple[Candidate, ...]:
    """What `package.module:name` holds: candidates, or a function without arguments that gives
    them."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as e:
        # Whatever its module raises when it is run.
        raise ConfigError(
            f"{where}: can't import `{cut(name)}`: {cut(str(e))}; expected `package.module:name`, "
            "a list, `grid:` or `random:`"
        ) from None
    try:
        found = tuple(found() if callable(found) else found)
    except Exception as e:
        raise ConfigError(f"{where}: `{cut(name)}`: {type(e).__name__}: {cut(str(e))}") from None
    names = [c.name for c in found if isinstance(c, Candidate)]
    if not found or len(names) < len(found):
        raise ConfigError(f"{where}: `{name}`: expected candidates, found {shown(found)}")
    if len(set(names)) < len(names):
        raise ConfigError(f"{where}: `{name}`: two candidates have the same name; rename one")
    return found


def _listed(content: Any, where: str) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(content, list):
        raise ConfigError(f"{where}: expected a list, found {shown(content)}")
    for i, item in enumerate(content):
        if not isinstance(item, Mapping):
            raise ConfigError(f"{where}[{i}]: expected keys of a candidate, found {shown(item)}")
    return [(f"{where}[{i}]", dict(item)) for i, item in enumerate(content)]


def _grid(content: Any, where: str) -> list[tuple[str, dict[str, Any]]]:
    keys = _checked_keys(content, where)
    choices = [_choices(key, content[key], f"{where}: {key}") for key in keys]
    _check_number(math.prod(len(values) for values in choices), where)
    return [(where, dict(zip(keys, values, strict=True))) for values in itertools.product(*choices)]


def _random(content: Any, where: str) -> list[tuple[str, dict[str, Any]]]:
    num_samples, seed, sources = random_space(content, where)
    generator = np.random.default_rng(seed)
    drawn: dict[str, dict[str, Any]] = {}
    for _ in range(num_samples):
        sample = {key: _draw(source, is_whole(key), generator) for key, source in sources.items()}
        drawn.setdefault(repr(sample), sample)
    return [(where, sample) for sample in drawn.values()]


def random_space(content: Any, where: str) -> tuple[int, int, dict[str, Range | list[Any]]]:
    """`num_samples`, `seed`, and by key of a candidate a range or the values to choose from.

    Raises `ConfigError` naming what is wrong.
    """
    keys = _checked_keys(content, where, "num_samples", "seed")
    num_samples, seed = content.get("num_samples"), content.get("seed", 0)
    for name, value, least in (("num_samples", num_samples, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(
                f"{where}: {name}: expected a whole number from {least}, found {shown(value)}"
            )
    _check_number(num_samples, where)
    types = typing.get_type_hints(Candidate)
    sources: dict[str, Range | list[Any]] = {}
    for key in keys:
        value = content[key]
        if isinstance(value, Mapping) and not _takes(key, dict):
            if types[key] not in (int, float):
                raise ConfigError(f"{where}: {key}: takes a list of values, not a range")
            sources[key] = from_mapping(Range, value, f"{where}: {key}")
        else:
            sources[key] = _choices(key, value, f"{where}: {key}")
    return num_samples, seed, sources


def is_whole(key: str) -> bool:
    """Whether a candidate's key takes whole numbers."""
    return typing.get_type_hints(Candidate)[key] is int


def _takes(key: str, kind: type) -> bool:
    return typing.get_origin(typing.get_type_hints(Candidate)[key]) is kind


def _check_number(num_candidates: int, where: str) -> None:
    if num_candidates > MAX_CANDIDATES:
        raise ConfigError(
            f"{where}: {num_candidates} candidates; {MAX_CANDIDATES} at most, so list fewer values"
        )


def _draw(source: Range | list[Any], whole: bool, generator: np.random.Generator) -> Any:
    if isinstance(source, Range):
        return source.draw(generator, whole=whole)
    return source[int(generator.integers(len(source)))]


def _checked_keys(content: Any, where: str, *besides: str) -> list[str]:
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: expected keys of a candidate, found {shown(content)}")
    fields = [f.name for f in dataclasses.fields(Candidate) if f.init and f.name != "name"]
    for key in content:
        if key not in fields and key not in besides:
            hint = suggestion(cut(str(key)), [*fields, *besides], "known keys")
            raise ConfigError(f"{where}: unknown key `{cut(str(key))}`; {hint}")
    if "architecture" not in content:
        raise ConfigError(f"{where}: missing key `architecture`")
    return [key for key in content if key not in besides]


def _choices(key: str, value: Any, where: str) -> list[Any]:
    """The values of one key; a flat list is itself one value where the key takes lists."""
    if isinstance(value, Mapping) and not _takes(key, dict):
        raise ConfigError(f"{where}: a range belongs under `random:`; a grid lists its values")
    if not isinstance(value, list):
        return [value]
    if _takes(key, tuple) and not any(isinstance(v, list) for v in value):
        return [value]
    if not value:
        raise ConfigError(f"{where}: an empty list; give at least one value")
    return value


def _named(settings: list[tuple[str, dict[str, Any]]]) -> tuple[Candidate, ...]:
    """Candidates under unique names: the given one, or architecture and whatever varies."""
    built = [_build(values, where) for where, values in settings]
    varying = [
        field for field in _ABBREVIATIONS if len({repr(getattr(c, field)) for c in built}) > 1
    ]
    named: dict[str, Candidate] = {}
    for (where, values), candidate in zip(settings, built, strict=True):
        name = values.get("name") or readable_name(candidate, varying)
        if name in named and (values.get("name") or named[name].identity != candidate.identity):
            raise ConfigError(f"{where}: two candidates are named `{name}`; rename one")
        # Two generated names are alike only if the candidates are: the second adds nothing.
        named.setdefault(name, dataclasses.replace(candidate, name=name))
    return tuple(named.values())


def _build(values: dict[str, Any], where: str) -> Candidate:
    name = values.get("name") or str(values.get("architecture"))
    try:
        return from_mapping(Candidate, {**values, "name": name}, where)
    except ConfigError as e:
        raise e if where in str(e) else ConfigError(f"{where}: {e}") from None


def readable_name(candidate: Candidate, varying: list[str]) -> str:
    """Its architecture, and the values of what varies."""
    parts = [candidate.architecture]
    for field in (f for f in _ABBREVIATIONS if f in varying):
        value = getattr(candidate, field)
        if isinstance(value, dict):
            text = "+".join(f"{name}={size}" for name, size in value.items())
        else:
            text = "x".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"
        parts.append(_ABBREVIATIONS[field] + (text or "0"))
    return "-".join(parts)
