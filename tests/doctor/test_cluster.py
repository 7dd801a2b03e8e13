from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from diet_ray.doctor.cluster import Node, cluster, judged, places, versions

HERE = Node(
    address="10.0.0.1", versions=versions(), sees_folder=True, num_gpus=0.0, torch_sees_gpu=False
)


def test_a_running_cluster_is_asked_node_by_node(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diet_ray.doctor.cluster.PROBE_TIMEOUT_S", 600.0)
    found = cluster(tmp_path / "runs")
    assert [f.status for f in found] == ["ok", "ok"], found
    assert found[0].found.startswith("1 nodes, 2 CPUs")
    assert str(tmp_path / "runs") in found[1].found
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_cluster_that_does_not_answer_is_no_place_for_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = {"Alive": True, "Resources": {"CPU": 4.0}}
    monkeypatch.setattr("ray.nodes", lambda: [node])
    monkeypatch.setattr("diet_ray.doctor.cluster._ask", lambda *_: ([], ["10.0.0.1"]))
    found = cluster(tmp_path / "runs")
    assert [f.status for f in found] == ["ok", "failure"]
    assert "no answer from 10.0.0.1" in found[1].found


@pytest.mark.parametrize(
    ("changes", "subject", "advice"),
    [
        ({"versions": HERE.versions | {"torch": "1.0"}}, "torch", "install torch=="),
        ({"versions": HERE.versions | {"diet-ray": None}}, "diet-ray", "install diet-ray=="),
        ({"sees_folder": False}, "shared folder", "mount it"),
        ({"num_gpus": 1.0}, "GPUs", "CUDA"),
    ],
)
def test_a_node_that_differs_is_named(changes: dict, subject: str, advice: str) -> None:
    other = replace(HERE, address="10.0.0.2", **changes)
    (found,) = judged([HERE, other], Path("/shared/runs"))
    assert (found.status, found.subject) == ("failure", subject)
    assert "10.0.0.2" in found.found
    assert "10.0.0.1" not in found.found
    assert advice in found.advice


def test_nodes_alike_are_fine() -> None:
    (found,) = judged([HERE, replace(HERE, address="10.0.0.2")], Path("/shared/runs"))
    assert found.status == "ok"


def test_a_cluster_needs_two_cpus() -> None:
    assert places(1, 1.0, 0.0).status == "failure"
    assert places(2, 2.0, 0.0).status == "ok"
