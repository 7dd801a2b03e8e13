"""Ray's metrics: on its dashboard, and for Prometheus under the names below after `ray_`.

`deploy/grafana-dashboard.json` shows them. They need a connection to a cluster.
"""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge

from diet_ray.monitoring.observer import Outcome, Rows, StagePoint

TAG = "run"
ROWS = ("diet_rows", "Rows that the proxies were trained on.")
GAUGES = {
    "diet_rows_per_s": "Rows a second, over about the last minute.",
    "diet_stage": "Stages committed.",
    "diet_num_stages": "Stages of the run.",
    "diet_slots": "Slots of the memory.",
    "diet_memory_bytes": "Bytes of the slots.",
    "diet_lag_s": "Seconds from the newest distilled row's timestamp until its commit.",
    "diet_log_loss": "Of the proxies, each row predicted before it was trained on.",
    "diet_mean_influence": "Mean influence of the stage's rows.",
}


class RayMetrics:
    """An observer; `run` is the tag of all values."""

    def __init__(self, run: str) -> None:
        self._tags = {TAG: run}
        self._rows = Counter(ROWS[0], description=ROWS[1], tag_keys=(TAG,))
        self._gauges = {
            name: Gauge(name, description=text, tag_keys=(TAG,)) for name, text in GAUGES.items()
        }
        self._counted: int | None = None

    def on_rows(self, rows: Rows) -> None:
        if self._counted is not None and rows.done > self._counted:
            self._rows.inc(rows.done - self._counted, tags=self._tags)
        self._counted = rows.done
        self._set("diet_rows_per_s", rows.per_s or 0.0)

    def on_stage(self, point: StagePoint) -> None:
        self._set("diet_stage", point.number)
        self._set("diet_num_stages", point.num_stages)
        self._set("diet_slots", point.slots)
        self._set("diet_memory_bytes", point.memory_bytes)
        self._set("diet_lag_s", point.lag_s)
        self._set("diet_log_loss", point.log_loss)
        self._set("diet_mean_influence", point.mean_influence)

    def close(self, outcome: Outcome, error: BaseException | None) -> None:
        self._set("diet_rows_per_s", 0.0)

    def _set(self, name: str, value: float) -> None:
        self._gauges[name].set(value, tags=self._tags)
