from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from diet_ray.monitoring import ray_metrics
from diet_ray.monitoring.ray_metrics import GAUGES, ROWS, RayMetrics
from tests.monitoring.points import ROWS as SOME
from tests.monitoring.points import point

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana-dashboard.json"


@pytest.fixture
def values(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What a metric holds, by name."""
    held: dict[str, float] = {}

    class Metric:
        def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
            assert description
            assert tag_keys == ("run",)
            self.name = name

        def set(self, value: float, tags: dict[str, str]) -> None:
            assert tags == {"run": "clicks"}
            held[self.name] = value

        def inc(self, value: float, tags: dict[str, str]) -> None:
            held[self.name] = held.get(self.name, 0.0) + value

    monkeypatch.setattr(ray_metrics, "Gauge", Metric)
    monkeypatch.setattr(ray_metrics, "Counter", Metric)
    return held


def test_every_metric_is_set(values: dict[str, float]) -> None:
    metrics = RayMetrics("clicks")
    metrics.on_rows(SOME)
    metrics.on_stage(point(2))
    assert set(values) == set(GAUGES)
    assert (values["diet_stage"], values["diet_slots"], values["diet_lag_s"]) == (2, 20, 3600)
    assert values["diet_rows_per_s"] == 50
    metrics.close("finished", None)
    assert values["diet_rows_per_s"] == 0


def test_rows_are_counted_from_where_a_run_goes_on(values: dict[str, float]) -> None:
    metrics = RayMetrics("clicks")
    for done in (1000, 1200, 1200, 1500):
        metrics.on_rows(ray_metrics.Rows(done=done, total=2000, per_s=None))
    assert values[ROWS[0]] == 500


def test_the_dashboard_shows_metrics_that_exist_and_all_of_them() -> None:
    board = json.loads(DASHBOARD.read_text())
    shown: set[str] = set()
    places: list[dict[str, int]] = []
    for panel in board["panels"]:
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        places.append(panel["gridPos"])
        for target in panel["targets"]:
            shown |= set(re.findall(r"ray_diet_\w+", target["expr"]))
            assert 'run=~"$run"' in target["expr"]
    exported = {f"ray_{name}" for name in GAUGES} | {f"ray_{ROWS[0]}_total"}
    assert shown == exported
    assert {v["name"] for v in board["templating"]["list"]} == {"datasource", "run"}
    assert not any(overlap(a, b) for i, a in enumerate(places) for b in places[:i])


def overlap(a: Any, b: Any) -> bool:
    across = a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"]
    return across and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]
