"""Optimiser and full-training settings."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam with decoupled weight decay; table rows are updated only when a batch touches them."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.epsilon <= 0 or self.weight_decay < 0:
            raise ValueError("learning_rate and epsilon must be above 0, weight_decay at least 0")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise ValueError("beta1 and beta2 must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What may change while a run goes on, from a share of its steps or rows on."""

    begin: float
    """From 0 to below 1."""
    learning_rate: float
    weight_decay: float = 0.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.begin < 1 or not 0 <= self.dropout < 1:
            raise ValueError("begin and dropout must lie in [0, 1)")
        self.applied_to(OptimizerConfig())

    def applied_to(self, optimizer: OptimizerConfig) -> OptimizerConfig:
        return replace(optimizer, learning_rate=self.learning_rate, weight_decay=self.weight_decay)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How one candidate is trained on a whole log, in time order."""

    epochs: int = 1
    """Passes over the training rows; the last mini-batch of each may be shorter."""
    batch_size: int | None = None
    """Rows of a mini-batch, over all workers; default: the candidate's own."""
    validation_share: float = 0.0
    """The last part of the training rows, by time, that is held out and judged after each epoch."""
    patience: int = 1
    """Epochs without a better AUC on the rows held out after which training stops; the weights of
    the best epoch are kept. Without such rows all epochs run, and the last weights are kept."""
    evaluation_rows: int = 20_000
    """Evenly spaced rows of the test tail that the trained model is judged on."""
    checkpoint_every_rows: int = 1_000_000
    """Rows between two checkpoints; there is one more at the end of every epoch."""
    max_failures: int = 3
    """Deaths of workers after which a run gives up instead of going on by itself."""

    def __post_init__(self) -> None:
        sizes = (self.epochs, self.patience, self.checkpoint_every_rows)
        if min(sizes) < 1 or (self.batch_size is not None and self.batch_size < 1):
            raise ValueError(
                "epochs, batch_size, patience and checkpoint_every_rows must be at least 1"
            )
        if not 0 <= self.validation_share < 1:
            raise ValueError(f"validation_share must lie in [0, 1), found {self.validation_share}")
        if self.evaluation_rows < 4 or self.max_failures < 0:
            raise ValueError("evaluation_rows must be at least 4, max_failures at least 0")
