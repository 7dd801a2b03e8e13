"""What a running cluster has: its nodes, their places, their versions, and the shared folder."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import ray

from diet_ray.doctor.finding import Finding, failure, ok, warning

COMPARED = ("diet-ray", "ray", "torch", "pyarrow", "numpy")
PROBE_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Node:
    """What a task says of the node that it runs on."""

    address: str
    versions: dict[str, str | None]
    sees_folder: bool
    num_gpus: float
    """That Ray counts."""
    torch_sees_gpu: bool


def cluster(path: Path) -> list[Finding]:
    """Of the cluster that is joined; `path` is where runs go. Runs a small task on every node."""
    alive = [n for n in ray.nodes() if n["Alive"]]
    total = {k: sum(n["Resources"].get(k, 0.0) for n in alive) for k in ("CPU", "GPU")}
    found = [places(len(alive), total["CPU"], total["GPU"])]
    path.mkdir(parents=True, exist_ok=True)
    token = path / f".diet-doctor-{uuid.uuid4().hex[:8]}"
    token.touch()
    try:
        nodes, silent = _ask(alive, token)
    finally:
        token.unlink()
    if silent:
        advice = "install diet-ray there, free CPUs, or look at the node's logs"
        found.append(
            (warning if nodes else failure)("nodes", f"no answer from {', '.join(silent)}", advice)
        )
    return found + (judged(nodes, path) if nodes else [])


def places(num_nodes: int, num_cpus: float, num_gpus: float) -> Finding:
    text = f"{num_nodes} nodes, {num_cpus:g} CPUs, {num_gpus:g} GPUs"
    if num_cpus < 2:
        return failure("cluster", text, "add nodes: a scorer and a trainer hold a CPU each")
    return ok("cluster", text)


def judged(nodes: list[Node], path: Path) -> list[Finding]:
    """What the answers of all nodes say together."""
    found = []
    here = versions()
    for name in COMPARED:
        other = [n for n in nodes if n.versions[name] != here[name]]
        if other:
            text = ", ".join(f"{n.versions[name] or 'none'} on {n.address}" for n in other)
            advice = f"install {name}=={here[name]} there: bits and files depend on it"
            found.append(failure(name, f"{here[name]} here, {text}", advice))
    blind = [n.address for n in nodes if not n.sees_folder]
    if blind:
        advice = "mount it there under the same name, or choose a folder that all nodes see"
        found.append(failure("shared folder", f"{path}: not seen by {', '.join(blind)}", advice))
    for n in nodes:
        if n.num_gpus and not n.torch_sees_gpu:
            advice = "install a build of torch for CUDA there"
            found.append(failure("GPUs", f"torch sees none on {n.address}", advice))
    if not found:
        text = f"{len(nodes)} nodes with the same versions, all see {path}"
        found.append(ok("nodes", text))
    return found


def versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in COMPARED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _ask(alive: list[dict[str, object]], token: Path) -> tuple[list[Node], list[str]]:
    """Answers, and addresses of the nodes that gave none in time."""
    asked = {}
    for n in alive:
        resources = n["Resources"]
        assert isinstance(resources, dict)
        selector = {"ray.io/node-id": n["NodeID"]}
        task = ray.remote(num_cpus=0, label_selector=selector, max_retries=0)(_probe)
        asked[task.remote(n["NodeManagerAddress"], str(token), resources.get("GPU", 0.0))] = str(
            n["NodeManagerAddress"]
        )
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_TIMEOUT_S)
    nodes, silent = [], [asked[r] for r in late]
    for reference in ready:
        try:
            nodes.append(ray.get(reference))
        except ray.exceptions.RayError:
            # The module that the task is in isn't there, say.
            silent.append(asked[reference])
    return sorted(nodes, key=lambda n: n.address), silent


def _probe(address: str, token: str, num_gpus: float) -> Node:
    import torch

    return Node(
        address=address,
        versions=versions(),
        sees_folder=Path(token).exists(),
        num_gpus=num_gpus,
        # Ray hides GPUs from a task that holds none.
        torch_sees_gpu=torch.version.cuda is not None,
    )
