"""Connecting to Ray, and refusing early, with a reason, what the cluster can't run."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import ray

from diet_ray.errors import ClusterError


def connect(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    object_store_bytes: int | None = None,
    include_dashboard: bool | None = None,
) -> None:
    """Joins the running cluster (`address`, or RAY_ADDRESS), or starts a local one.

    What follows `address` is for a local cluster; Ray chooses what is left out. Does nothing when
    already connected. Raises `ClusterError` if the address doesn't answer, or Ray doesn't start.
    """
    if ray.is_initialized():
        return
    # Ray would otherwise say so on every start; the pools here state their own resources.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # It speaks before it has read its `logging_level`.
    logging.getLogger("ray").setLevel(logging.ERROR)
    target = address or os.environ.get("RAY_ADDRESS")
    if target is None:
        _use_passing_token()
    try:
        with unchanged_handler(signal.SIGTERM):
            ray.init(
                address=target,
                num_cpus=None if target else num_cpus,
                object_store_memory=None if target else object_store_bytes,
                include_dashboard=None if target else include_dashboard,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
            )
    except Exception as e:
        # Ray raises plain ones when a node takes too long to start.
        if target is None:
            advice = "look whether the machine is too busy or short of memory, then try again"
            raise ClusterError(f"can't start Ray on this machine: {e}; {advice}") from None
        raise ClusterError(f"can't connect to Ray at {target}: {e}") from None


@contextmanager
def unchanged_handler(number: signal.Signals) -> Iterator[None]:
    """Puts the handler of a signal back at the end: parts of Ray leave one of their own for good.

    Only the main thread can, or has to.
    """
    handler = signal.getsignal(number)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(number, handler)


def _use_passing_token() -> None:
    """Gives a local cluster a token that ends with it, unless the user has chosen or has one.

    Ray would write one to the home folder instead, and from then on every `ray start` on the
    machine would ask for it.
    """
    chosen = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    if any(name in os.environ for name in chosen) or (Path.home() / ".ray/auth_token").exists():
        return
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def require_cpus(num_cpus: float, purpose: str) -> None:
    """Raises `ClusterError` if the cluster has fewer CPUs than `purpose` must hold at once."""
    available = ray.cluster_resources().get("CPU", 0.0)
    if num_cpus > available:
        raise ClusterError(
            f"{purpose} needs {num_cpus:g} CPUs but the cluster has {available:g}: "
            "ask for fewer workers or CPUs a worker, or add nodes"
        )


def require_places(num_actors: int, num_cpus: float, num_gpus: float, purpose: str) -> None:
    """Raises `ClusterError` if the nodes can't hold `num_actors` of that size at the same time."""
    require_cpus(num_actors * num_cpus, purpose)
    places = num_places(num_cpus, num_gpus)
    if num_actors > places:
        raise ClusterError(
            f"{purpose} needs {num_actors} actors of {_size(num_cpus, num_gpus)} each but the "
            f"cluster's nodes have places for {places}: ask for fewer or smaller ones, or add nodes"
        )


def num_places(num_cpus: float, num_gpus: float = 0.0) -> int:
    """Actors of that size that the nodes hold when they hold nothing else."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(_fit(n.get("CPU", 0.0), n.get("GPU", 0.0), num_cpus, num_gpus) for n in nodes)


def num_free_places(num_cpus: float, num_gpus: float = 0.0) -> int:
    """Actors of that size that go into what nothing holds at the moment, were it on one node."""
    return _fit(free("CPU"), free("GPU"), num_cpus, num_gpus)


def free(resource: Literal["CPU", "GPU"]) -> float:
    """CPUs or GPUs of the cluster that nothing holds at the moment."""
    return float(ray.available_resources().get(resource, 0.0))


def num_gpus() -> float:
    """GPUs in the cluster."""
    return float(ray.cluster_resources().get("GPU", 0.0))


def no_place(num_cpus: float, num_gpus: float) -> str:
    """Why an actor of that size waits, and what to do."""
    total = ray.cluster_resources()
    shares = [f"{free('CPU'):g} of the cluster's {total.get('CPU', 0.0):g} CPUs"]
    if num_gpus:
        shares.append(f"{free('GPU'):g} of its {total.get('GPU', 0.0):g} GPUs")
    return (
        f"it needs {_size(num_cpus, num_gpus)} on one node, and {' and '.join(shares)} are free: "
        "end what holds the others, ask for smaller ones, or add nodes"
    )


def this_node() -> dict[str, str]:
    """The `label_selector` that places an actor or task beside its caller.

    No other node's loss can take it away then.
    """
    return {"ray.io/node-id": ray.get_runtime_context().get_node_id()}


def _fit(cpus: float, gpus: float, num_cpus: float, num_gpus: float) -> int:
    fits = cpus / num_cpus
    if num_gpus:
        fits = min(fits, gpus / num_gpus)
    # 0.6 / 0.2 is below 3.
    return int(fits + 1e-9)


def _size(num_cpus: float, num_gpus: float) -> str:
    return f"{num_cpus:g} CPUs" + (f" and {num_gpus:g} GPUs" if num_gpus else "")
