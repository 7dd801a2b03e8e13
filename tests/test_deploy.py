"""Cluster files: valid by their own schemas, consistent with the pins and with one another."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import typer
import yaml

from diet_ray.cli import app

ROOT = Path(__file__).parent.parent
POD_GROUPS = ("head", "cpu", "gpu")


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    return dict(line.split("==") for line in lines)


@pytest.fixture(scope="module")
def version() -> str:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


@pytest.fixture(scope="module")
def autoscaler() -> dict[str, Any]:
    return load("cluster.yaml")


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    return load("deploy/raycluster.yaml")["spec"]


def group(spec: dict[str, Any], name: str) -> dict[str, Any]:
    if name == "head":
        return spec["headGroupSpec"]
    return next(g for g in spec["workerGroupSpecs"] if g["groupName"] == name)


def container(spec: dict[str, Any], name: str) -> dict[str, Any]:
    (only,) = group(spec, name)["template"]["spec"]["containers"]
    return only


def gibibytes(text: str) -> int:
    assert text.endswith("Gi")
    return int(text.removesuffix("Gi"))


def test_cluster_yaml_passes_rays_own_schema(autoscaler: dict[str, Any]) -> None:
    schema = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
    jsonschema.validate(autoscaler, json.loads(schema.read_text(encoding="utf-8")))
    broken = {**autoscaler, "idle_minutes": 5}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, json.loads(schema.read_text(encoding="utf-8")))


def test_cluster_yaml_has_a_cpu_head_and_cpu_and_gpu_workers(autoscaler: dict[str, Any]) -> None:
    types = autoscaler["available_node_types"]
    assert autoscaler["head_node_type"] == "head"
    assert set(types) == {"head", "cpu_worker", "gpu_worker"}
    assert "GPU" not in types["head"]["resources"]
    assert "GPU" not in types["cpu_worker"]["resources"]
    assert types["gpu_worker"]["resources"]["GPU"] >= 1
    assert all(t["resources"]["CPU"] > 0 for t in types.values())
    workers = [t for name, t in types.items() if name != "head"]
    for worker in workers:
        assert 0 <= worker["min_workers"] <= worker["max_workers"]
    assert sum(w["max_workers"] for w in workers) == autoscaler["max_workers"]
    # A job is no larger than the nodes that are up when it starts.
    assert sum(w["min_workers"] for w in workers) > 0


def test_only_nodes_that_can_be_lost_are_spot(autoscaler: dict[str, Any]) -> None:
    spot = {
        name
        for name, node in autoscaler["available_node_types"].items()
        if node["node_config"].get("InstanceMarketOptions", {}).get("MarketType") == "spot"
    }
    assert spot == {"cpu_worker"}


def test_cluster_yaml_starts_the_pinned_ray(
    autoscaler: dict[str, Any], pins: dict[str, str]
) -> None:
    docker = autoscaler["docker"]
    images = {docker["head_image"], docker["worker_image"]}
    images |= {
        node["docker"]["worker_image"]
        for node in autoscaler["available_node_types"].values()
        if "docker" in node
    }
    assert images == {f"rayproject/ray:{pins['ray']}-py311-{kind}" for kind in ("cpu", "gpu")}


def test_cluster_yaml_installs_the_project_under_its_constraints(
    autoscaler: dict[str, Any],
) -> None:
    (folder,) = autoscaler["file_mounts"]
    installs = [c for c in autoscaler["setup_commands"] if "pip install" in c]
    assert installs
    assert all(f"-c {folder}/constraints.txt {folder}" in c for c in installs)
    assert any(".venv" in pattern for pattern in autoscaler["rsync_exclude"])


def test_cluster_yaml_bounds_the_object_store_and_hides_the_dashboard(
    autoscaler: dict[str, Any],
) -> None:
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        stop, start = autoscaler[key]
        assert stop == "ray stop"
        found = re.search(r"--object-store-memory=(\d+)\b", start)
        assert found, start
        assert 1 <= int(found[1]) / 1024**3 <= 8
    assert "--dashboard-host=127.0.0.1" in autoscaler["head_start_ray_commands"][1]
    assert autoscaler["idle_timeout_minutes"] > 0


def test_every_node_of_cluster_yaml_mounts_the_shared_data(autoscaler: dict[str, Any]) -> None:
    (mount,) = [o for o in autoscaler["docker"]["run_options"] if o.startswith("-v ")]
    host, inside = mount.removeprefix("-v ").split(":")
    assert inside == "/data"
    assert any(host in c and "mount -t nfs4" in c for c in autoscaler["initialization_commands"])


def test_kubernetes_manifests_name_their_kinds() -> None:
    kinds = {
        "storage": ("v1", "PersistentVolumeClaim"),
        "raycluster": ("ray.io/v1", "RayCluster"),
        "rayjob": ("ray.io/v1", "RayJob"),
        "daily": ("batch/v1", "CronJob"),
    }
    for name, expected in kinds.items():
        manifest = load(f"deploy/{name}.yaml")
        assert (manifest["apiVersion"], manifest["kind"]) == expected
        assert manifest["metadata"]["name"].startswith("diet-ray")


def strict(schema: Any) -> Any:
    """The same, where a key that isn't known is wrong, as `kubectl --validate=strict` has it."""
    if isinstance(schema, list):
        return [strict(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


@pytest.mark.skipif("KUBERAY_CRDS" not in os.environ, reason="no KubeRay CRDs at hand")
@pytest.mark.parametrize(("name", "crd"), [("raycluster", "rayclusters"), ("rayjob", "rayjobs")])
def test_kuberay_takes_the_manifests(name: str, crd: str) -> None:
    """By the schemas that KubeRay publishes: its `ray-operator/config/crd/bases`."""
    file = Path(os.environ["KUBERAY_CRDS"]) / f"ray.io_{crd}.yaml"
    definition = yaml.safe_load(file.read_text(encoding="utf-8"))
    (version,) = [v for v in definition["spec"]["versions"] if v["name"] == "v1"]
    schema = version["schema"]["openAPIV3Schema"]
    # Kubernetes knows these itself; the schema says no more than that they are objects.
    schema["properties"]["metadata"] = {"type": "object"}
    manifest = load(f"deploy/{name}.yaml")
    jsonschema.validate(manifest, strict(schema))
    manifest["spec"]["enableInTreeAutoscalling"] = True
    with pytest.raises(jsonschema.ValidationError, match="enableInTreeAutoscalling"):
        jsonschema.validate(manifest, strict(schema))


def test_the_job_runs_on_the_very_cluster(spec: dict[str, Any]) -> None:
    job = load("deploy/rayjob.yaml")["spec"]
    assert job["rayClusterSpec"] == spec
    assert job["shutdownAfterJobFinishes"] is True
    script = re.search(r"python /home/ray/diet-ray/(jobs/\w+\.py) ", job["entrypoint"])
    assert script
    assert (ROOT / script[1]).is_file()
    assert "WORKDIR /home/ray/diet-ray" in (ROOT / "deploy/Dockerfile").read_text("utf-8")


def test_every_night_yesterdays_partition_is_added(tmp_path: Path) -> None:
    daily = load("deploy/daily.yaml")["spec"]
    assert daily["concurrencyPolicy"] == "Forbid"
    (pod,) = daily["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    cluster = load("deploy/raycluster.yaml")["metadata"]["name"]
    environment = {e["name"]: e.get("value") for e in pod["env"]}
    assert environment["RAY_ADDRESS"] == f"http://{cluster}-head-svc:8265"
    # Its script, with a `ray` that says what it was asked for.
    submitted = tmp_path / "submitted"
    (tmp_path / "ray").write_text(f'#!/bin/sh\necho "$@" >> {submitted}\n')
    (tmp_path / "ray").chmod(0o755)
    # It may be midnight meanwhile.
    today = datetime.now(UTC).date()
    for date in (today - timedelta(days=1), today):
        (tmp_path / f"{date}.parquet").touch()
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(
        [*pod["command"], *pod["args"]],
        check=True,
        timeout=60,
        env={"PATH": path, "RUN": "/data/runs/clicks", "PARTITIONS": str(tmp_path)},
    )
    job = "job submit -- python /home/ray/diet-ray/jobs/update.py /data/runs/clicks"
    first, second = submitted.read_text().splitlines()
    assert first == job
    days = {today, datetime.now(UTC).date()}
    partitions = [tmp_path / f"{day - timedelta(days=1)}.parquet" for day in days]
    assert second in [f"{job} --log {partition}" for partition in partitions]


def test_every_job_is_the_command_of_its_name() -> None:
    jobs = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "jobs").glob("*.py")}
    assert set(jobs) == {"distill", "update", "search", "consistency", "score", "train", "prepare"}
    assert set(jobs) <= set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for name, text in jobs.items():
        assert f'main("{name}")' in text
        assert f"`diet {name}`" in text


def test_versions_match_the_pins(spec: dict[str, Any], pins: dict[str, str], version: str) -> None:
    assert spec["rayVersion"] == pins["ray"] == ray.__version__
    for name in POD_GROUPS:
        kind = "gpu" if name == "gpu" else "cpu"
        assert container(spec, name)["image"] == f"diet-ray:{version}-{kind}"
    for file in ("Dockerfile", "README.md"):
        text = (ROOT / "deploy" / file).read_text(encoding="utf-8")
        assert set(re.findall(r"rayproject/ray:([\d.]+)-", text)) == {pins["ray"]}
        assert set(re.findall(r"diet-ray:([\d.]+)-[cg]pu", text)) == {version}


@pytest.mark.parametrize("name", POD_GROUPS)
def test_pods_ask_for_what_they_may_use(spec: dict[str, Any], name: str) -> None:
    resources = container(spec, name)["resources"]
    # Ray takes its size from the limits, the scheduler from the requests.
    assert resources["requests"] == resources["limits"]
    assert ("nvidia.com/gpu" in resources["limits"]) == (name == "gpu")
    store = int(group(spec, name)["rayStartParams"]["object-store-memory"])
    assert store <= gibibytes(resources["limits"]["memory"]) * 1024**3 * 0.3
    num_cpus = group(spec, name)["rayStartParams"].get("num-cpus")
    if num_cpus is not None:
        assert 0 < int(num_cpus) < int(resources["limits"]["cpu"])


@pytest.mark.parametrize("name", POD_GROUPS)
def test_pods_are_probed_and_mount_the_shared_volume(spec: dict[str, Any], name: str) -> None:
    pod = container(spec, name)
    for probe in ("livenessProbe", "readinessProbe"):
        assert pod[probe]["httpGet"] == {"path": "/api/healthz", "port": 52365}
        assert pod[probe]["failureThreshold"] * pod[probe]["periodSeconds"] >= 60
    (mount,) = pod["volumeMounts"]
    (volume,) = group(spec, name)["template"]["spec"]["volumes"]
    claim = load("deploy/storage.yaml")
    assert mount == {"name": volume["name"], "mountPath": "/data"}
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_worker_groups_scale_within_their_bounds(spec: dict[str, Any]) -> None:
    assert spec["enableInTreeAutoscaling"] is True
    assert {g["groupName"] for g in spec["workerGroupSpecs"]} == {"cpu", "gpu"}
    for workers in spec["workerGroupSpecs"]:
        assert 0 <= workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    assert sum(g["minReplicas"] for g in spec["workerGroupSpecs"]) > 0
