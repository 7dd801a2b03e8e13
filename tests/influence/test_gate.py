"""The gate as a plain object; with Ray Data around it, see `test_pool`."""

from __future__ import annotations

import asyncio
from typing import Any

from diet_ray.influence.gate import Gate


def test_a_retired_stage_has_no_weights_any_more() -> None:
    weights: list[Any] = ["of stage 1"]

    async def told() -> None:
        gate = Gate()
        for stage in (1, 2):
            await gate.publish(stage, weights)
        await gate.retire(1)
        assert await gate.weights(1) == []
        assert await gate.weights(2) == weights
        assert await gate.wait(1), "it stays open"

    asyncio.run(told())
