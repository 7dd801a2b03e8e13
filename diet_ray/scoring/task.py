"""Scoring one shard: what an actor of the pool does, and what it must be given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diet_ray.data.batch import Batch
from diet_ray.data.encoding import to_batch
from diet_ray.data.log import PreparedLog, Shard
from diet_ray.errors import DataError
from diet_ray.influence.coverage import declare_fallback
from diet_ray.models.catalogue import Candidate, build
from diet_ray.scoring.compiled import CompiledScorer
from diet_ray.scoring.config import RowScore, ScoreConfig
from diet_ray.scoring.row_scores import RowScorer, ScoredModel
from diet_ray.scoring.shard_file import write_shard
from diet_ray.scoring.summary import Summary
from diet_ray.storage import Folder

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class PackedModel:
    """A `ScoredModel` as arrays, for any process."""

    candidate: Candidate
    weights: Arrays
    validation: Arrays | None
    preconditioner: Arrays | None
    fallback: tuple[str, ...]
    """Parameters without a closed form, so that all processes agree on them."""

    @classmethod
    def of(
        cls, candidate: Candidate, scored: ScoredModel, fallback: tuple[str, ...]
    ) -> PackedModel:
        return cls(
            candidate=candidate,
            weights=_arrays(scored.model.state_dict()),
            validation=None if scored.validation is None else _arrays(scored.validation),
            preconditioner=(
                None if scored.preconditioner is None else _arrays(scored.preconditioner)
            ),
            fallback=fallback,
        )

    def unpack(self, log: PreparedLog, device: str) -> ScoredModel:
        model = build(self.candidate, log.features, seed=0)
        model.load_state_dict(_tensors(self.weights, "cpu"))
        model = model.requires_grad_(False).eval().to(device)
        declare_fallback(model, self.fallback)
        return ScoredModel(
            model=model,
            learning_rate=self.candidate.learning_rate,
            validation=None if self.validation is None else _tensors(self.validation, device),
            preconditioner=(
                None if self.preconditioner is None else _tensors(self.preconditioner, device)
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """All that scoring a shard depends on."""

    log: PreparedLog
    models: Sequence[PackedModel]
    whitening: np.ndarray | None
    config: ScoreConfig
    folder: Folder
    """Where the files of scores go."""


class ScoreTask:
    """Writes a shard's file of scores; its answer is the shard's summary."""

    def __init__(self, load: Callable[[], Scoring]) -> None:
        # Bits depend on the number of threads.
        torch.set_num_threads(1)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._computing = threading.Lock()
        self._scoring = scoring = load()
        self._train_stages = {stage.index for stage in scoring.log.train_stages}
        config = scoring.config
        scorer: Callable[[Batch], dict[RowScore, Tensor]] = RowScorer(
            [packed.unpack(scoring.log, self._device) for packed in scoring.models],
            config.scores,
            num_features=config.feature_size,
            seed=config.seed,
            whitening=(
                None
                if scoring.whitening is None
                else torch.tensor(scoring.whitening, device=self._device)
            ),
            precision=config.precision,
        )
        if config.compile:
            exact = config.precision == "float32"
            scorer = CompiledScorer(scorer, config.batch_size, exact=exact)
        self._scorer = scorer

    def __call__(self, shard: Shard) -> bytes:
        """Raises `DataError` naming the shard if it can't be read or a score isn't finite."""
        scoring = self._scoring
        rows = scoring.log.read_shard(shard)
        # One shard is computed while another is read or written.
        with self._computing:
            scores = self._score(to_batch(rows, scoring.log.features))
        for name, values in scores.items():
            if not np.isfinite(values).all():
                raise DataError(
                    f"{scoring.log.path}/{shard.file}, rows from {shard.first_row}: `{name}` is "
                    "not finite: the checkpoint has diverged, or a numeric field has extreme values"
                )
        summary = Summary.of(
            rows["_row"].to_numpy(),
            scores,
            scoring.config.top,
            is_train=shard.stage in self._train_stages,
        )
        write_shard(scoring.folder, shard, rows, scores, summary)
        return summary.to_json().encode()

    def _score(self, batch: Batch) -> dict[RowScore, np.ndarray]:
        size = self._scoring.config.batch_size
        parts: list[dict[RowScore, Tensor]] = [
            self._scorer(batch[i : i + size].to(self._device)) for i in range(0, len(batch), size)
        ]
        return {
            name: torch.cat([part[name] for part in parts]).float().cpu().numpy()
            for name in parts[0]
        }


def _arrays(tensors: Any) -> Arrays:
    return {
        name: tensor.detach().cpu().numpy()
        for name, tensor in tensors.items()
        if isinstance(tensor, Tensor)
    }


def _tensors(arrays: Arrays, device: str) -> dict[str, Tensor]:
    # Arrays out of the object store are read-only.
    return {name: torch.tensor(array, device=device) for name, array in arrays.items()}
