"""Whether a distilled set and a log mean the same by their fields."""

from __future__ import annotations

from diet_ray.data.batch import FeatureSpec
from diet_ray.errors import ConfigError


def require_same_features(distilled: FeatureSpec, log: FeatureSpec) -> None:
    """Raises `ConfigError` naming the first difference between a distilled set and a log.

    The log may know more ids, as it grows by new days; never fewer.
    """
    for kind in ("categorical", "numeric", "sequence"):
        ours, theirs = _names(distilled, kind), _names(log, kind)
        for name in ours:
            if name not in theirs:
                raise ConfigError(
                    f"the distilled set has the {kind} field `{name}`, the log has none; "
                    "use the log that it was distilled from"
                )
        for name in theirs:
            if name not in ours:
                raise ConfigError(
                    f"the log has the {kind} field `{name}`, the distilled set has none; "
                    "use the log that it was distilled from"
                )
        if ours != theirs:
            raise ConfigError(f"{kind} fields are ordered {ours} distilled, {theirs} in the log")
    sizes = zip(distilled.categorical, distilled.num_ids, log.num_ids, strict=True)
    lengths = [
        (s.name, s.num_ids, t.num_ids)
        for s, t in zip(distilled.sequence, log.sequence, strict=True)
    ]
    for name, num_distilled, num_log in [*sizes, *lengths]:
        if num_distilled > num_log:
            raise ConfigError(
                f"field `{name}`: the distilled set knows {num_distilled} ids, the log {num_log}; "
                "use the log that it was distilled from"
            )
    for s, t in zip(distilled.sequence, log.sequence, strict=True):
        if (s.max_length, s.target) != (t.max_length, t.target):
            raise ConfigError(
                f"sequence `{s.name}`: max_length {s.max_length} and ids of {s.target} distilled, "
                f"{t.max_length} and {t.target} in the log"
            )


def _names(features: FeatureSpec, kind: str) -> list[str]:
    fields = getattr(features, kind)
    return [f if isinstance(f, str) else f.name for f in fields]
