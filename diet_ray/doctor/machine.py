"""What this machine has: versions, CPUs, memory, GPUs, shared memory, ports.

Judgements are functions of numbers; `machine` looks the numbers up.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from diet_ray.doctor.finding import Finding, failure, ok, warning

GIB = 1024**3
MIN_CPUS = 2
"""A scorer's and a training process's; with one they wait for each other."""
MIN_MEMORY_BYTES = 2 * GIB
MIN_OPEN_FILES = 4096
MIN_SHARED_MEMORY_SHARE = 0.25
"""Of memory; Ray puts its object store, by default 30 % of memory, there."""
HEAD_PORTS = {6379: "a Ray head", 8265: "Ray's dashboard and job server"}
_SHARED_MEMORY = Path("/dev/shm")
_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def machine(*, starts_head: bool) -> list[Finding]:
    """`starts_head`: whether a cluster of its own would be started here, which needs ports."""
    memory = memory_bytes()
    found = [
        python(sys.version_info[:2]),
        *packages(),
        cpus(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        main_memory(memory),
        *gpus(),
        open_files(),
    ]
    if _SHARED_MEMORY.is_dir():
        found.append(shared_memory(shutil.disk_usage(_SHARED_MEMORY).total, memory))
    if starts_head:
        found += [port(number, purpose) for number, purpose in HEAD_PORTS.items()]
    return found


def python(found: tuple[int, int]) -> Finding:
    text = ".".join(map(str, found))
    if found < (3, 11):
        return failure("python", text, "install Python 3.11 or newer")
    return ok("python", text)


def packages(distribution: str = "diet-ray") -> list[Finding]:
    """This program and what it depends on, against the versions that it asks for."""
    try:
        needed = [Requirement(text) for text in requires(distribution) or []]
        findings = [ok(distribution, version(distribution))]
    except PackageNotFoundError:
        return [failure(distribution, "not installed", "run `pip install` on every node")]
    return findings + [
        package(requirement)
        for requirement in needed
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    ]


def package(requirement: Requirement) -> Finding:
    asked = f"pip install '{requirement.name}{requirement.specifier}'"
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return failure(requirement.name, "not installed", asked)
    if not requirement.specifier.contains(found, prereleases=True):
        return failure(requirement.name, found, asked)
    return ok(requirement.name, found)


def cpus(number: int | None) -> Finding:
    if number is not None and number < MIN_CPUS:
        return failure(
            "CPUs", str(number), f"give it {MIN_CPUS}: a scorer and a trainer hold one each"
        )
    return ok("CPUs", "unknown" if number is None else str(number))


def memory_bytes() -> int:
    """What this process may use: the machine's, or less where a container says so."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_LIMITS:
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            total = min(total, int(text))
    return total


def main_memory(num_bytes: int) -> Finding:
    text = f"{num_bytes / GIB:.1f} GiB"
    if num_bytes < MIN_MEMORY_BYTES:
        return failure("memory", text, f"give it {MIN_MEMORY_BYTES // GIB} GiB or more")
    return ok("memory", text)


def shared_memory(num_bytes: int, memory: int) -> Finding:
    text = f"{num_bytes / GIB:.1f} GiB"
    if num_bytes < MIN_SHARED_MEMORY_SHARE * memory:
        needed = MIN_SHARED_MEMORY_SHARE * memory / GIB
        advice = f"give a container --shm-size={needed:.0f}g: else Ray's objects go to a slow disk"
        return warning("/dev/shm", text, advice)
    return ok("/dev/shm", text)


def gpus() -> list[Finding]:
    """Nothing where there is none."""
    import torch

    if torch.cuda.is_available():
        return [ok("GPUs", f"{torch.cuda.device_count()}, {torch.cuda.get_device_name()}")]
    if shutil.which("nvidia-smi") is None:
        return []
    advice = "install a build of torch for CUDA that the driver supports"
    return [warning("GPUs", f"there, but torch {torch.__version__} can't use them", advice)]


def open_files() -> Finding:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < MIN_OPEN_FILES:
        return warning("open files", str(soft), f"ulimit -n {MIN_OPEN_FILES}")
    return ok("open files", "unlimited" if soft < 0 else str(soft))


def port(number: int, purpose: str) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            advice = f"if that is a cluster, join it with --address; else free it for {purpose}"
            return warning(f"port {number}", "in use", advice)
    return ok(f"port {number}", "free")
