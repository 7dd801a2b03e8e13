from __future__ import annotations

import socket

import pytest
from packaging.requirements import Requirement

from diet_ray.doctor import machine
from diet_ray.doctor.machine import GIB


def test_every_package_that_is_needed_is_looked_at() -> None:
    found = {f.subject: f for f in machine.packages()}
    assert {"diet-ray", "ray", "torch", "pyarrow", "pyyaml"} <= set(found)
    assert "optuna" not in found
    assert all(f.status == "ok" for f in found.values())


def test_a_package_that_is_old_or_missing_is_named_with_the_command() -> None:
    old = machine.package(Requirement("numpy>=1000"))
    assert (old.status, old.advice) == ("failure", "pip install 'numpy>=1000'")
    missing = machine.package(Requirement("no-such-package>=2"))
    assert (missing.status, missing.found) == ("failure", "not installed")
    (alone,) = machine.packages("no-such-package")
    assert alone.status == "failure"


@pytest.mark.parametrize(
    ("finding", "status"),
    [
        (machine.python((3, 10)), "failure"),
        (machine.python((3, 11)), "ok"),
        (machine.cpus(1), "failure"),
        (machine.cpus(2), "ok"),
        (machine.cpus(None), "ok"),
        (machine.main_memory(GIB), "failure"),
        (machine.main_memory(4 * GIB), "ok"),
        (machine.shared_memory(64 * 1024**2, 8 * GIB), "warning"),
        (machine.shared_memory(2 * GIB, 8 * GIB), "ok"),
    ],
)
def test_judgements(finding: machine.Finding, status: str) -> None:
    assert finding.status == status
    assert bool(finding.advice) == (status != "ok")


def test_a_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        assert machine.port(number, "a Ray head").status == "warning"
    assert machine.port(number, "a Ray head").status == "ok"


def test_memory_is_no_more_than_the_machines() -> None:
    assert 0 < machine.memory_bytes() < 1 << 50
