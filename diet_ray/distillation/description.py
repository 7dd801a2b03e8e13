"""What a distilled dataset says of itself."""

from __future__ import annotations

from dataclasses import asdict

from diet_ray.config import to_mapping
from diet_ray.data.log import PreparedLog
from diet_ray.distillation.config import DistillConfig
from diet_ray.distillation.stream import StreamState
from diet_ray.memory.manifest import Description
from diet_ray.training.recipe import matched_recipe


def description(
    config: DistillConfig, log: PreparedLog, state: StreamState, num_slots: int
) -> Description:
    """Of the memory after the stages that `state` has seen, its recipe included."""
    recipe = matched_recipe(num_rows_full=state.rows_seen, num_slots=num_slots)
    return Description(
        schema=log.schema,
        features=log.features,
        recipe=recipe,
        proxies=tuple(to_mapping(p) for p in config.proxies),
        budget=to_mapping(config.budget),
        source_fingerprint=log.fingerprint,
        num_rows_seen=state.rows_seen,
        source_bytes=log.num_train_bytes,
        stages=tuple(asdict(r) for r in state.records),
        details={"distill_seconds": state.seconds, "seed": config.seed},
    )
