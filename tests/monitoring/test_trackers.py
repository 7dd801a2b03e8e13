from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from diet_ray.errors import ConfigError
from diet_ray.monitoring.trackers import LOGGERS, MLflow, TensorBoard
from tests.monitoring.points import ROWS, point


def test_tensorboard_writes_every_figure_by_rows_seen(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event

    logger = TensorBoard(tmp_path)
    logger.on_rows(ROWS)
    logger.on_stage(point(2))
    logger.close("finished", None)
    (file,) = (tmp_path / "tensorboard").iterdir()
    found = {v.tag: (e.step, v.simple_value) for e in events(file, Event) for v in e.summary.value}
    assert found["distil/slots"] == (200, 20)
    assert found["distil/log_loss"] == (200, 0.5)
    assert found["distil/rows_per_s"] == (150, 50)
    assert {"distil/memory_bytes", "distil/lag_s", "distil/mean_influence"} <= set(found)


def events(file: Path, kind: Any) -> list[Any]:
    """Records of a TFRecord file: length (8 bytes), check (4), content, check (4)."""
    content, found = file.read_bytes(), []
    while content:
        size = int.from_bytes(content[:8], "little")
        found.append(kind.FromString(content[12 : 12 + size]))
        content = content[16 + size :]
    return found


class Client:
    """Of MLflow, as far as it is used."""

    def __init__(self) -> None:
        self.metrics: list[tuple[str, str, float, int]] = []
        self.ended: tuple[str, str] | None = None

    def get_experiment_by_name(self, name: str) -> None:
        self.experiment = name

    def create_experiment(self, name: str) -> str:
        return "7"

    def create_run(self, number: str, run_name: str, tags: dict[str, str]) -> Any:
        assert number == "7"
        info = ModuleType("info")
        info.info = ModuleType("inner")  # type: ignore[attr-defined]
        info.info.run_id = run_name
        return info

    def log_metric(self, run: str, name: str, value: float, step: int) -> None:
        self.metrics.append((run, name, value, step))

    def set_terminated(self, run: str, status: str) -> None:
        self.ended = (run, status)


def test_mlflow_gets_every_figure_and_the_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client()
    module: Any = ModuleType("mlflow")
    module.tracking = ModuleType("mlflow.tracking")
    module.tracking.MlflowClient = lambda: client
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    logger = MLflow(tmp_path / "clicks")
    logger.on_rows(ROWS)
    logger.on_stage(point(3))
    logger.close("stopped", None)
    assert client.experiment == "diet"
    assert ("clicks", "slots", 30, 300) in client.metrics
    assert len(client.metrics) == 5
    assert client.ended == ("clicks", "KILLED")


def test_mlflow_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(tmp_path.as_uri())
    logger = MLflow(tmp_path / "clicks")
    logger.on_stage(point(1))
    logger.on_stage(point(2))
    logger.close("finished", None)
    (run,) = mlflow.search_runs(experiment_names=["diet"], output_format="list")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["slots"] == 20


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "tensorboardX"), ("mlflow", "mlflow")]
)
def test_a_missing_library_is_named_with_what_to_install(
    name: Any, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"diet-ray\[{name}\]"):
        LOGGERS[name](tmp_path)
