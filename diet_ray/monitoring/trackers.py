"""Experiment trackers: the figures of each stage, by rows seen, where teams already look."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diet_ray.errors import ConfigError
from diet_ray.monitoring.observer import LoggerName, Observer, Outcome, Rows, StagePoint

EXPERIMENT = "diet"


def stage_figures(point: StagePoint) -> dict[str, float]:
    """What is logged of a stage, by name."""
    return {
        "log_loss": point.log_loss,
        "slots": point.slots,
        "memory_bytes": point.memory_bytes,
        "mean_influence": point.mean_influence,
        "lag_s": point.lag_s,
    }


class TensorBoard:
    """Event files below RUN/tensorboard. Raises `ConfigError` without tensorboardX."""

    def __init__(self, run: Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ConfigError(_missing("tensorboard", "diet-ray[tensorboard]")) from None
        self._writer = SummaryWriter(str(run / "tensorboard"))

    def on_rows(self, rows: Rows) -> None:
        if rows.per_s is not None:
            self._writer.add_scalar("distil/rows_per_s", rows.per_s, rows.done)

    def on_stage(self, point: StagePoint) -> None:
        for name, value in stage_figures(point).items():
            self._writer.add_scalar(f"distil/{name}", value, point.rows_seen)
        self._writer.flush()

    def close(self, outcome: Outcome, error: BaseException | None) -> None:
        self._writer.close()


class MLflow:
    """A run of the experiment `diet`, or MLFLOW_EXPERIMENT_NAME, on the server that
    MLFLOW_TRACKING_URI names. Raises `ConfigError` without mlflow."""

    def __init__(self, run: Path) -> None:
        try:
            import mlflow
        except ImportError:
            raise ConfigError(_missing("mlflow", "diet-ray[mlflow]")) from None
        self._client: Any = mlflow.tracking.MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self._client.get_experiment_by_name(name)
        number = found.experiment_id if found else self._client.create_experiment(name)
        self._run = self._client.create_run(number, run_name=run.name, tags={"run": str(run)})

    def on_rows(self, rows: Rows) -> None:
        """Nothing: a call to a server is too dear for every batch."""

    def on_stage(self, point: StagePoint) -> None:
        for name, value in stage_figures(point).items():
            self._client.log_metric(self._run.info.run_id, name, value, step=point.rows_seen)

    def close(self, outcome: Outcome, error: BaseException | None) -> None:
        status = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}[outcome]
        self._client.set_terminated(self._run.info.run_id, status)


LOGGERS: dict[LoggerName, Callable[[Path], Observer]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
}


def _missing(name: str, package: str) -> str:
    return f"loggers: {name}: pip install '{package}', or take it out of the configuration"
