"""Scoring a stage in this process, where it is asked for: what the pool does on a cluster."""

from __future__ import annotations

from torch import Tensor

from diet_ray.data.log import PreparedLog
from diet_ray.influence.config import InfluenceConfig
from diet_ray.influence.reservoir import Reservoir
from diet_ray.influence.shard_scores import StageScores, merge, score_shard
from diet_ray.models.catalogue import Candidate, build


class SerialScorer:
    """Scores one shard after another; the same bits as the pool gives."""

    def __init__(
        self,
        log: PreparedLog,
        proxy: Candidate,
        config: InfluenceConfig,
        budgets: dict[int, int],
        seed: int,
    ) -> None:
        """`budgets` are the slots to draw by stage index."""
        self._log = log
        self._proxy = proxy
        self._config = config
        self._budgets = budgets
        self._seed = seed
        self._weights: dict[int, dict[str, Tensor]] = {}

    def publish(self, stage: int, state: dict[str, Tensor]) -> None:
        """Keeps the weights under which a stage is to be scored."""
        self._weights[stage] = state

    def results(self, stage: int) -> StageScores:
        """Scores the stage now."""
        found = next(s for s in self._log.stages if s.index == stage)
        features = self._log.features_at(stage)
        model = build(self._proxy, features, seed=0)
        model.load_state_dict(self._weights.pop(stage))
        reservoir = Reservoir.of_stage(
            found.strata, self._budgets[stage], self._config.defensive_share, self._seed
        )
        shards = (self._log.read_shard(s) for s in found.shards)
        parts = [score_shard(model, features, rows, self._config, reservoir) for rows in shards]
        return merge(parts, reservoir)
